// What the benchmark asks of a Redis server, over connections of its own.

import { once } from 'node:events'
import { connect } from 'node:net'

/** The fields of a section of INFO. */
export async function infoOf(port: number, section: string): Promise<Map<string, string>> {
  const socket = connect(port, '127.0.0.1')
  socket.setEncoding('latin1').write(`INFO ${section}\r\n`)
  let text = ''
  for (let end = -1; end === -1 || text.length < end; ) {
    const [part] = await once(socket, 'data')
    text += part
    const [head, length] = /^\$(\d+)\r\n/.exec(text) ?? []
    if (head) end = head.length + Number(length)
  }
  socket.destroy()
  const fields = text.split('\r\n').flatMap((line) => {
    const at = line.indexOf(':')
    return at === -1 ? [] : [[line.slice(0, at), line.slice(at + 1)] as const]
  })
  return new Map(fields)
}

/** How many commands it has carried out, those of scripts included. */
export async function executedBy(port: number): Promise<number> {
  const stats = await infoOf(port, 'commandstats')
  const calls = [...stats.values()].map((text) => Number(/^calls=(\d+)/.exec(text)?.[1] ?? 0))
  return calls.reduce((sum, count) => sum + count, 0)
}

/** Counts the commands that are sent to it from now on, without those of scripts. */
export async function countSent(port: number): Promise<{ readonly count: number; end(): void }> {
  const socket = connect(port, '127.0.0.1')
  socket.setEncoding('latin1').write('MONITOR\r\n')
  await once(socket, 'data')
  let count = 0
  let rest = ''
  socket.on('data', (part) => {
    const lines = (rest + part).split('\r\n')
    rest = lines.pop() ?? ''
    count += lines.filter((line) => !/^\+[\d.]+ \[\d+ lua\]/.test(line)).length
  })
  return {
    get count() {
      return count
    },
    end: () => socket.destroy(),
  }
}
