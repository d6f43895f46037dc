import assert from 'node:assert/strict'
import { test } from 'node:test'
import { blocksOf } from '../../src/share/blocks.ts'
import type { LogEntry } from '../../src/share/event-log.ts'

const long = 'x'.repeat(64 * 1024)

/** With a letter for what is long. */
const reads: Record<string, string> = {
  'one event': 'id: 1\ndata: L\n\n',
  'events around it': 'id: 1\ndata: a\n\ndata: L\nid: 2\n\ndata: b\n\nid: 3\n\n',
  'lines of it': 'data: a\ndata: L\nid: 1\ndata: L\n\n',
  'a comment as long': ': L\n\ndata: a\n\n',
  'a name as long': 'L: a\n\ndataL\n\ndata\nid: 1\n\n',
  'blank lines around it': '\n\n\ndata: L\nid: 1\n\n\n\nid: 2\ndata: L\n\n',
  'an unfinished event behind it': 'data: L\nid: 1\n\ndata: b',
  'CR LF': 'id: 1\r\ndata: L\r\n\r\ndata: a\r\n\r\n',
}

function shown(blocks: readonly LogEntry[]): unknown[] {
  return blocks.map(({ bytes, id, isEvent }) => ({ text: bytes.toString().replaceAll(long, 'L'), id, isEvent }))
}

for (const [name, text] of Object.entries(reads)) {
  test(`a read with a long line has the blocks that it would have with a short one: ${name}`, () => {
    const blocks = blocksOf(Buffer.from(text.replaceAll('L', long)))

    assert.deepEqual(shown(blocks), shown(blocksOf(Buffer.from(text))))
  })
}
