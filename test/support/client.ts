// One face over two clients, a raw HTTP/1.1 one and an HTTP/2 one, that tell how an answer came: each chunk for itself,
// and whether the end was clean or the transfer was broken off.
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2, constants } from 'node:http2'
import { connect as connectTcp, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { Arrivals, gate, until, within } from './waiting.ts'

/** An HTTP/2 stream that is reset without an error and without its end is neither: clients do not agree about it. */
export type Ending = 'clean' | 'broken' | 'unclear'
export type Protocol = 'http/1.1' | 'h2'
export type Headers = Record<string, string | string[]>

export interface RequestOptions {
  protocol?: Protocol
  method?: string
  headers?: Headers
  body?: string | Buffer
  /** The body follows with `send` and `finish`; over HTTP/1.1 the headers must give its length. */
  sendsBodyLater?: boolean
  /** HTTP/2 only: the connection to use, which then stays open. */
  session?: ClientHttp2Session
}

/** What is common to both protocols: the answer as it has come so far. */
export abstract class Client {
  status = 0
  /** Bytes of the body so far. */
  length = 0
  headers: Headers = {}
  readonly chunks: Buffer[] = []
  ending: Ending | undefined
  readonly #arrivals = new Arrivals<Buffer>()
  // What `text` was when it was last asked for, and of how many bytes: some wait for a text again and again.
  #text = { value: '', length: 0 }
  readonly #head = gate()
  readonly #end = gate<Ending>()
  #isHeadIn = false

  get bytes(): Buffer {
    return Buffer.concat(this.chunks)
  }

  get text(): string {
    if (this.#text.length !== this.length) this.#text = { value: this.bytes.toString('utf8'), length: this.length }
    return this.#text.value
  }

  get hasHead(): boolean {
    return this.#isHeadIn
  }

  /** Resolves when status and headers are there. */
  async head(ms?: number): Promise<this> {
    const first = await within(Promise.race([this.#head.promise, this.#end.promise]), 'the head of the answer', ms)
    if (first !== undefined && !this.#isHeadIn) throw new Error('the connection ended before the head of an answer')
    return this
  }

  /** How the answer ended. */
  ended(ms?: number): Promise<Ending> {
    return within(this.#end.promise, () => `the end of the answer, got ${JSON.stringify(this.text.slice(-200))}`, ms)
  }

  /** The whole body of an answer that ends cleanly. */
  async whole(): Promise<string> {
    const ending = await this.ended()
    if (ending !== 'clean') throw new Error(`the answer was broken off after ${JSON.stringify(this.text.slice(-200))}`)
    return this.text
  }

  /** Resolves when the body so far contains the text or satisfies the predicate; fails when it ended without. */
  async waitFor(wanted: string | ((text: string) => boolean), ms?: number): Promise<void> {
    const isThere = (): boolean => (typeof wanted === 'string' ? this.text.includes(wanted) : wanted(this.text))
    const inVain = (): string =>
      `${JSON.stringify(wanted.toString().slice(-500))} in ${JSON.stringify(this.text.slice(-500))}`
    await until(() => isThere() || this.ending !== undefined, inVain, ms)
    if (!isThere()) throw new Error(`the answer ended (${this.ending}) without ${inVain()}`)
  }

  /** Resolves when the body so far has at least so many bytes. */
  async waitForLength(bytes: number, ms?: number): Promise<void> {
    await until(
      () => this.length >= bytes || this.ending !== undefined,
      () => `${bytes} bytes, got ${this.length}`,
      ms,
    )
    if (this.length < bytes) throw new Error(`the answer ended (${this.ending}) after ${this.length} bytes`)
  }

  /** The next chunk that has not been taken: a chunk of the chunked coding, or a DATA frame. */
  nextChunk(ms?: number): Promise<Buffer> {
    return this.#arrivals.next('a chunk', ms)
  }

  /** Sends a part of the request's body. */
  abstract send(bytes: string | Buffer): void
  /** Says that the request's body is complete. */
  abstract finish(): void
  /** Leaves at once: the socket is destroyed, or the HTTP/2 stream is reset. */
  abstract close(): void
  /** Stops reading, so that the kernel's buffers and then the proxy feel it. */
  abstract pause(): void
  abstract resume(): void

  protected headIsIn(status: number, headers: Headers): void {
    this.status = status
    this.headers = headers
    this.#isHeadIn = true
    this.#head.open()
  }

  protected chunkIsIn(bytes: Buffer): void {
    this.chunks.push(bytes)
    this.length += bytes.length
    this.#arrivals.add(bytes)
  }

  protected endIsIn(ending: Ending): void {
    if (this.ending !== undefined) return
    this.ending = ending
    this.#end.open(ending)
  }
}

/** Sends the request; the answer fills the client as it comes. */
export function request(url: string, options: RequestOptions = {}): Client {
  return options.protocol === 'h2' ? new Http2Client(url, options) : new Http1Client(url, options)
}

/** Sends the request and waits for the head of the answer. */
export function open(url: string, options: RequestOptions = {}): Promise<Client> {
  return request(url, options).head()
}

export function headerOf(client: Client, name: string): string | undefined {
  const value = client.headers[name]
  return Array.isArray(value) ? value.join(', ') : value
}

type Framing = 'none' | 'chunked' | 'until-close' | { left: number }

class Http1Client extends Client {
  readonly socket: Socket
  readonly #method: string
  #unread: Buffer = Buffer.alloc(0)
  #framing: Framing | undefined

  constructor(url: string, { method = 'GET', headers = {}, body }: RequestOptions) {
    super()
    this.#method = method
    const { protocol, hostname, port, host, pathname, search } = new URL(url)
    const target = { host: hostname, port: Number(port) }
    this.socket =
      protocol === 'https:'
        ? connectTls({ ...target, servername: 'localhost', rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] })
        : connectTcp(target)
    this.socket.setNoDelay(true)
    this.socket.on('data', (bytes: Buffer) => this.#read(bytes))
    this.socket.on('error', () => this.#isOver())
    this.socket.on('end', () => this.#isOver())
    this.socket.on('close', () => this.#isOver())
    this.socket.write(requestHead(`${method} ${pathname}${search}`, { host, ...headers }, body))
    if (body !== undefined) this.socket.write(body)
  }

  send(bytes: string | Buffer): void {
    this.socket.write(bytes)
  }

  /** The length in the headers says it. */
  finish(): void {}

  close(): void {
    this.socket.destroy()
  }

  pause(): void {
    this.socket.pause()
  }

  resume(): void {
    this.socket.resume()
  }

  #isOver(): void {
    this.endIsIn(this.#framing === 'until-close' ? 'clean' : 'broken')
    this.socket.destroy()
  }

  #isComplete(): void {
    this.endIsIn('clean')
    this.socket.destroy()
  }

  #read(bytes: Buffer): void {
    this.#unread = Buffer.concat([this.#unread, bytes])
    while (this.ending === undefined && this.#step());
  }

  /** Takes one part of the answer off the unread bytes; false when more must come first. */
  #step(): boolean {
    if (this.#framing === undefined) return this.#takeHead()
    if (this.#framing === 'chunked') return this.#takeChunk()
    if (this.#framing === 'none') return false
    return this.#takePlain(this.#framing)
  }

  #takeHead(): boolean {
    const end = this.#unread.indexOf('\r\n\r\n')
    if (end === -1) return false
    const [statusLine = '', ...lines] = this.#unread.subarray(0, end).toString('latin1').split('\r\n')
    this.#unread = this.#unread.subarray(end + 4)
    const status = Number(statusLine.split(' ')[1])
    if (status >= 100 && status < 200 && status !== 101) return true
    const headers = headersFrom(lines)
    this.#framing = framingOf(this.#method, status, headers)
    this.headIsIn(status, headers)
    if (this.#framing === 'none' || (typeof this.#framing === 'object' && this.#framing.left === 0)) this.#isComplete()
    return true
  }

  #takeChunk(): boolean {
    const end = this.#unread.indexOf('\r\n')
    if (end === -1) return false
    const size = Number.parseInt(this.#unread.subarray(0, end).toString('latin1'), 16)
    if (this.#unread.length < end + 2 + size + 2) return false
    const body = this.#unread.subarray(end + 2, end + 2 + size)
    this.#unread = this.#unread.subarray(end + 2 + size + 2)
    if (size === 0) this.#isComplete()
    else this.chunkIsIn(Buffer.from(body))
    return true
  }

  #takePlain(framing: 'until-close' | { left: number }): boolean {
    if (this.#unread.length === 0) return false
    this.chunkIsIn(this.#unread)
    if (framing !== 'until-close') {
      framing.left -= this.#unread.length
      if (framing.left <= 0) this.#isComplete()
    }
    this.#unread = Buffer.alloc(0)
    return true
  }
}

function requestHead(line: string, headers: Headers, body: string | Buffer | undefined): string {
  const names = Object.keys(headers).map((name) => name.toLowerCase())
  const lines = Object.entries(headers).flatMap(([name, value]) => [value].flat().map((one) => `${name}: ${one}`))
  const isFramed = names.includes('content-length') || names.includes('transfer-encoding')
  if (body !== undefined && !isFramed) lines.push(`content-length: ${Buffer.byteLength(body)}`)
  return `${line} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`
}

function headersFrom(lines: string[]): Headers {
  const headers: Headers = {}
  for (const line of lines) {
    const colon = line.indexOf(':')
    const name = line.slice(0, colon).toLowerCase()
    const value = line.slice(colon + 1).trim()
    const before = headers[name]
    headers[name] = before === undefined ? value : [before, value].flat()
  }
  return headers
}

function framingOf(method: string, status: number, headers: Headers): Framing {
  if (method === 'HEAD' || status === 204 || status === 304) return 'none'
  if (/chunked/i.test(String(headers['transfer-encoding'] ?? ''))) return 'chunked'
  const length = headers['content-length']
  return length === undefined ? 'until-close' : { left: Number(length) }
}

class Http2Client extends Client {
  readonly stream: ClientHttp2Stream
  readonly #ownSession: ClientHttp2Session | undefined

  constructor(url: string, { method = 'GET', headers = {}, body, sendsBodyLater = false, session }: RequestOptions) {
    super()
    const { origin, pathname, search } = new URL(url)
    this.#ownSession = session === undefined ? openHttp2Session(origin) : undefined
    const connection = session ?? (this.#ownSession as ClientHttp2Session)
    const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }
    const head = { ':method': method, ':path': `${pathname}${search}`, ...length, ...headers }
    this.stream = connection.request(head, { endStream: body === undefined && !sendsBodyLater })
    this.stream.on('response', ({ ':status': status, ...fields }) => this.headIsIn(Number(status), fields as Headers))
    this.stream.on('data', (bytes: Buffer) => this.chunkIsIn(bytes))
    this.stream.on('error', () => {})
    // The answer may be complete while the request is not.
    this.stream.on('end', () => {
      if (endingOnTheWire(connection, this.stream) === 'clean') this.endIsIn('clean')
    })
    this.stream.on('close', () => {
      this.endIsIn(endingOnTheWire(connection, this.stream))
      this.#ownSession?.destroy()
    })
    if (body !== undefined) this.stream.end(body)
  }

  send(bytes: string | Buffer): void {
    this.stream.write(bytes)
  }

  finish(): void {
    this.stream.end()
  }

  close(): void {
    this.stream.close(constants.NGHTTP2_CANCEL)
  }

  pause(): void {
    this.stream.pause()
  }

  resume(): void {
    this.stream.resume()
  }
}

function endingOnTheWire(session: ClientHttp2Session, stream: ClientHttp2Stream): Ending {
  if (stream.id !== undefined && watchers.get(session)?.ended.has(stream.id)) return 'clean'
  const isQuietReset = stream.rstCode === constants.NGHTTP2_NO_ERROR && !session.destroyed && !session.closed
  return isQuietReset ? 'unclear' : 'broken'
}

const watchers = new WeakMap<ClientHttp2Session, FrameWatcher>()

/** An HTTP/2 connection for several requests. */
export function openHttp2Session(origin: string): ClientHttp2Session {
  const { hostname, port } = new URL(origin)
  const socket = connectTls({
    host: hostname,
    port: Number(port),
    servername: 'localhost',
    rejectUnauthorized: false,
    ALPNProtocols: ['h2'],
  })
  const watcher = new FrameWatcher(socket)
  const session = connectHttp2(origin, { createConnection: () => watcher })
  watchers.set(session, watcher)
  session.on('error', () => {})
  return session
}

/** Sits between the socket and Node's HTTP/2 and notes END_STREAM flags: Node does not tell an end from a quiet reset. */
class FrameWatcher extends Duplex {
  /** The streams whose end has come. */
  readonly ended = new Set<number>()
  readonly #socket: TLSSocket
  #frameHead: Buffer = Buffer.alloc(0)
  /** Bytes of the current frame's payload that are still to come. */
  #payloadLeft = 0

  constructor(socket: TLSSocket) {
    super()
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on('data', (bytes: Buffer) => {
      this.#note(bytes)
      if (!this.push(bytes)) socket.pause()
    })
    socket.on('end', () => this.push(null))
    socket.on('error', (error) => this.destroy(error))
    socket.on('close', () => this.destroy())
  }

  override _read(): void {
    this.#socket.resume()
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.write(bytes, done)
  }

  override _final(done: () => void): void {
    this.#socket.end(done)
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy()
    done(error)
  }

  #note(bytes: Buffer): void {
    let at = 0
    while (at < bytes.length) {
      if (this.#payloadLeft > 0) {
        const taken = Math.min(this.#payloadLeft, bytes.length - at)
        this.#payloadLeft -= taken
        at += taken
        continue
      }
      const part = bytes.subarray(at, at + 9 - this.#frameHead.length)
      this.#frameHead = Buffer.concat([this.#frameHead, part])
      at += part.length
      if (this.#frameHead.length < 9) return
      const [type, flags] = [this.#frameHead.readUInt8(3), this.#frameHead.readUInt8(4)]
      const isDataOrHeaders = type === 0 || type === 1
      if (isDataOrHeaders && (flags & 1) === 1) this.ended.add(this.#frameHead.readUInt32BE(5) & 0x7fffffff)
      this.#payloadLeft = this.#frameHead.readUIntBE(0, 3)
      this.#frameHead = Buffer.alloc(0)
    }
  }
}
