// Reads the answer to a request as the blocks of an event stream. The backends of the demo write LF only.
import type { IncomingMessage } from 'node:http'

export function readBlocks(res: IncomingMessage, onBlock: (text: string) => void): void {
  let unread = ''
  res.setEncoding('utf8').on('data', (text: string) => {
    const blocks = (unread + text).split('\n\n')
    unread = blocks.pop() ?? ''
    for (const block of blocks) onBlock(block)
  })
  // Whoever asked hears of a break by its own request.
  res.on('error', () => {})
}
