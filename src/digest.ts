// What stands for a text where the text itself is not needed again: clients make such texts up, as long as they like,
// and a part of a header keeps the whole of it in memory.

import { createHash } from 'node:crypto'

export function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('base64')
}
