// Upstreams and clients that do whatever a peer can do, in a row that a seed decides: bytes of all kinds, cut anywhere,
// with every ending there is. What a client gets can be told from what others get.
import { connect, type Socket } from 'node:net'
import { gzipSync } from 'node:zlib'
import type { Front } from './front.ts'
import { type Conversation, chunk, lastChunk } from './raw-upstream.ts'
import { below, type Chance, damaged, oneOf, parted, seeded } from './seeded.ts'

const longestWaitMs = 30
const longestVisitMs = 150
const longestWaitForHeadMs = 1_000

/** What is in all bytes that are meant for the client of this number. */
function mark(number: number): string {
  return `<${number}>`
}

/** Answers whatever is asked over a connection. */
export class HostileUpstream {
  readonly #chance: Chance
  /** Connections that the proxy has no reason to keep: what was sent over them is surely no whole answer. */
  readonly #unfit = new Set<Conversation>()

  constructor(seed: number) {
    this.#chance = seeded(seed)
  }

  /** How many connections are open that should not be, once all clients are gone. */
  get unfit(): number {
    return [...this.#unfit].filter(({ isClosed }) => !isClosed).length
  }

  /** What went over them, for whoever wants to know. */
  get told(): string {
    return [...this.#unfit]
      .filter(({ isClosed }) => !isClosed)
      .map(
        ({ received, socket }) =>
          `${socket.remotePort}: ${JSON.stringify(received)} was answered ${socket.bytesWritten} bytes; `,
      )
      .join('')
  }

  readonly converse = (conversation: Conversation): void => {
    let answered = 0
    conversation.socket.on('data', () => {
      const heads = conversation.received.split('\r\n\r\n')
      const head = heads[answered]
      if (head === undefined || heads.length <= answered + 1) return
      answered += 1
      void this.#answer(conversation, head, Number(/[?&]n=(\d+)/.exec(head)?.[1] ?? 0))
    })
  }

  async #answer(conversation: Conversation, head: string, number: number): Promise<void> {
    const chance = this.#chance
    const { bytes, needsItsEnd } = answerOf(chance, number)
    const isDamaged = chance() < 0.15
    const isCut = chance() < 0.4
    if (needsItsEnd && isCut && !isDamaged && head.startsWith('GET ')) this.#unfit.add(conversation)
    const parts = parted(chance, isDamaged ? damaged(chance, bytes) : bytes, 6)
    for (const part of isCut ? parts.slice(0, -1) : parts) {
      if (chance() < 0.4) await pause(chance)
      if (conversation.isClosed) return
      conversation.send(part)
    }
    const ending = chance()
    if (ending < 0.2) conversation.reset()
    else if (ending < 0.6) conversation.finish()
  }
}

/** The bytes of an answer, and whether it is surely not whole without the last of them. */
function answerOf(chance: Chance, number: number): { bytes: Buffer; needsItsEnd: boolean } {
  if (chance() < 0.1) return { bytes: randomBytes(chance), needsItsEnd: false }
  const interim = chance() < 0.1 ? 'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n' : ''
  const isStream = chance() < 0.8
  const status = isStream
    ? '200 OK'
    : oneOf(chance, ['200 OK', '204 No', '302 Found', '401 No', '500 Bad', '503 Busy', '101 Up'])
  const type = isStream ? 'text/event-stream' : oneOf(chance, ['text/html', 'application/json'])
  const isCompressed = chance() < 0.15
  const plain = streamBytes(chance, number)
  const body = isCompressed ? gzipSync(plain) : plain
  const head = [
    `${interim}HTTP/1.1 ${status}`,
    `Content-Type: ${type}`,
    ...(isCompressed ? ['Content-Encoding: gzip'] : []),
    ...(chance() < 0.2
      ? [oneOf(chance, ['Set-Cookie: a=b', 'Vary: *', 'Vary: X-A', 'Cache-Control: private', 'Connection: close'])]
      : []),
  ]
  const framing = chance()
  if (framing < 0.7) {
    const chunks = parted(chance, body, 8).map(chunk)
    return {
      bytes: joined(head, 'Transfer-Encoding: chunked', ...chunks, Buffer.from(lastChunk)),
      needsItsEnd: isStream,
    }
  }
  if (framing < 0.85) {
    const length = body.length + oneOf(chance, [0, 0, -1, 1, 1000])
    return { bytes: joined(head, `Content-Length: ${length}`, body), needsItsEnd: false }
  }
  return { bytes: joined(head, 'X-Nothing: 1', body), needsItsEnd: false }
}

function joined(head: string[], last: string, ...body: Buffer[]): Buffer {
  return Buffer.concat([Buffer.from(`${[...head, last].join('\r\n')}\r\n\r\n`), ...body])
}

const words = [
  'data: ',
  'data',
  'id: ',
  'id',
  'event: ',
  'retry: 1',
  'retry: 0',
  ':',
  '\n',
  '\r',
  '\r\n',
  '\n\n',
  '\n\n',
  '\r\r',
]

function streamBytes(chance: Chance, number: number): Buffer {
  const parts: Buffer[] = []
  for (let count = below(chance, 40); count > 0; count -= 1) {
    const kind = chance()
    if (kind < 0.3) parts.push(Buffer.from(`id: ${below(chance, 50)}\ndata: ${mark(number)}\n\n`))
    else if (kind < 0.85) parts.push(Buffer.from(oneOf(chance, words)))
    else if (kind < 0.9) parts.push(Buffer.from([0xef, 0xbb, 0xbf]))
    else if (kind < 0.95) parts.push(Buffer.alloc(below(chance, 5_000), 'x'))
    else parts.push(randomBytes(chance))
  }
  return Buffer.concat(parts)
}

function randomBytes(chance: Chance): Buffer {
  return Buffer.from(Array.from({ length: below(chance, 200) }, () => below(chance, 256)))
}

/** One client after another; resolves when it has left, to what it got that was not its own. */
export async function visit(front: Front, number: number, seed: number): Promise<string[]> {
  const chance = seeded(seed)
  const received =
    front.protocol === 'h2' || chance() < 0.5 ? await read(front, number, chance) : await talk(front, number, chance)
  const own = mark(number)
  return (received.match(/<\d+>/g) ?? []).filter((found) => found !== own)
}

/** As a client does that knows its protocol. */
async function read(front: Front, number: number, chance: Chance): Promise<string> {
  const client = front.request(`?n=${number}`, {
    method: oneOf(chance, ['GET', 'GET', 'GET', 'GET', 'HEAD', 'POST', 'DELETE']),
    headers: {
      ...(chance() < 0.3 && { 'last-event-id': `${below(chance, 50)}` }),
      ...(chance() < 0.2 && { accept: oneOf(chance, ['*/*', 'text/event-stream', 'nonsense']) }),
      ...(chance() < 0.2 && { 'x-a': `${below(chance, 2)}` }),
    },
    ...(chance() < 0.2 && { body: randomBytes(chance) }),
  })
  // Some leave before they have any answer.
  if (chance() < 0.7) await Promise.race([client.head().catch(() => {}), pause(chance, longestWaitForHeadMs)])
  for (let steps = below(chance, 5); steps > 0 && client.ending === undefined; steps -= 1) {
    if (chance() < 0.3) client.pause()
    await pause(chance)
    client.resume()
  }
  await Promise.race([client.ended().catch(() => {}), pause(chance, longestVisitMs)])
  client.close()
  // A connection that was not there yet is closed when it is.
  await client.ended()
  return client.text
}

/** Bytes that may be a request, or several, or none. */
async function talk(front: Front, number: number, chance: Chance): Promise<string> {
  const socket = connect(front.port, '127.0.0.1')
  let received = ''
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  socket
    .on('error', () => {})
    .on('data', (bytes: Buffer) => {
      received += bytes.toString('latin1')
    })
  const isDamaged = chance() < 0.5
  const requests = Buffer.from(requestOf(front, number, chance).repeat(1 + below(chance, 4)))
  for (const part of parted(chance, isDamaged ? damaged(chance, requests) : requests, 5)) {
    if (!socket.writable) break
    socket.write(part)
    if (chance() < 0.3) await pause(chance)
  }
  await Promise.race([closed, pause(chance, longestVisitMs)])
  await leave(socket, chance, closed)
  // What it asked for is not known.
  return isDamaged ? '' : received
}

function requestOf(front: Front, number: number, chance: Chance): string {
  const body = chance() < 0.2 ? 'a=1' : ''
  const framing =
    body === ''
      ? ''
      : oneOf(chance, [
          'Content-Length: 3\r\n\r\na=1',
          'Content-Length: 9\r\n\r\na=1',
          'Transfer-Encoding: chunked\r\n\r\n3\r\na=1\r\n0\r\n\r\n',
        ])
  const method = body === '' ? 'GET' : 'POST'
  const extra = oneOf(chance, [
    '',
    '',
    'Connection: close\r\n',
    'Expect: 100-continue\r\n',
    'Last-Event-ID: 7\r\n',
    'Upgrade: x\r\nConnection: upgrade\r\n',
  ])
  return `${method} ${front.mount}?n=${number} HTTP/1.1\r\nHost: x\r\n${extra}${framing || '\r\n'}`
}

async function leave(socket: Socket, chance: Chance, closed: Promise<void>): Promise<void> {
  const way = chance()
  if (way < 0.3) socket.resetAndDestroy()
  else if (way < 0.6) socket.end()
  if (way >= 0.3) await Promise.race([closed, pause(chance, longestWaitMs)])
  socket.destroy()
  await closed
}

/** Some time that the seed decides. */
function pause(chance: Chance, mostMs: number = longestWaitMs): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, below(chance, mostMs)))
}
