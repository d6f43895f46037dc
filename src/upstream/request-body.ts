// The body of a client's request, as it can be sent to an upstream: none, still unread, or read by a body parser
// that ran before and made into bytes again.

import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import { Readable, type Writable } from 'node:stream'
import { UpstreamError } from '../errors.ts'

export type RequestBody =
  | { readonly kind: 'none' }
  | { readonly kind: 'bytes'; readonly bytes: Buffer }
  | { readonly kind: 'stream'; readonly source: IncomingMessage }
  | { readonly kind: 'kept'; readonly kept: KeptBody }

/**
 * @param keepBytes how much of an unread body to keep, so that it can be sent again; 0 keeps nothing.
 * @throws UpstreamError when the body was read by someone who left nothing of it behind.
 */
export function requestBody(req: IncomingMessage, keepBytes: number): RequestBody {
  if (!announcesBody(req)) return { kind: 'none' }
  if (!req.readableEnded) {
    // What fails with the request is the client, and that is noticed by its response.
    req.on('error', () => {})
    return keepBytes > 0 ? { kind: 'kept', kept: new KeptBody(req, keepBytes) } : { kind: 'stream', source: req }
  }
  const parsed: unknown = 'body' in req ? req.body : undefined
  const bytes = bytesOfParsed(parsed, req.headers['content-type'] ?? '')
  if (bytes === undefined) throw new UpstreamError('ERR_SSE_PROXY_BODY_CONSUMED')
  return { kind: 'bytes', bytes }
}

function announcesBody(req: IncomingMessage): boolean {
  const { 'content-length': length, 'transfer-encoding': coding } = req.headers
  if (length !== undefined) return length !== '0'
  // HTTP/2 has no transfer coding: a body is there unless the stream ended with its headers.
  return coding !== undefined || (req.httpVersionMajor > 1 && !isEndedWithHeaders(req))
}

function isEndedWithHeaders(req: IncomingMessage): boolean {
  const stream: unknown = 'stream' in req ? req.stream : undefined
  return typeof stream === 'object' && stream !== null && 'endAfterHeaders' in stream && stream.endAfterHeaders === true
}

function bytesOfParsed(parsed: unknown, contentType: string): Buffer | undefined {
  if (parsed === undefined || Buffer.isBuffer(parsed)) return parsed
  const json = /[/+]json\b/i.test(contentType)
  if (typeof parsed === 'string') return Buffer.from(json && !isJson(parsed) ? JSON.stringify(parsed) : parsed)
  if (/^application\/x-www-form-urlencoded\b/i.test(contentType)) return Buffer.from(formOf(parsed))
  // A multipart body cannot be rebuilt from what its parser leaves.
  return /^multipart\//i.test(contentType) ? undefined : Buffer.from(JSON.stringify(parsed))
}

/** A text parser leaves the JSON text itself, a JSON parser may leave a string that was in it. */
function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** A form: repeated names for lists, brackets for what is nested. */
function formOf(value: unknown, name = ''): string {
  if (!isContainer(value)) return `${encodeURIComponent(name)}=${encodeURIComponent(String(value ?? ''))}`
  const flat = Array.isArray(value) && !value.some(isContainer)
  return Object.entries(value)
    .map(([key, item]) => formOf(item, flat || name === '' ? name || key : `${name}[${key}]`))
    .join('&')
}

function isContainer(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

/** Makes the headers fit the body that will be sent. */
export function describeBody(headers: OutgoingHttpHeaders, body: RequestBody): void {
  if (body.kind === 'bytes') {
    headers['content-length'] = String(body.bytes.length)
    // What a parser leaves has been decompressed.
    delete headers['content-encoding']
  } else if (isStreaming(body) && headers['content-length'] === undefined) {
    headers['transfer-encoding'] = 'chunked'
  }
}

/** The body as a stream to read from, for one attempt; undefined where it is sent in one piece. */
export function openBody(body: RequestBody): Readable | undefined {
  if (body.kind === 'stream') return body.source
  return body.kind === 'kept' ? body.kept.open() : undefined
}

export function isStreaming({ kind }: RequestBody): boolean {
  return kind === 'stream' || kind === 'kept'
}

/** Whether the body can be sent once more. */
export function isReplayable(body: RequestBody): boolean {
  return body.kind === 'kept' ? body.kept.isWhole : body.kind !== 'stream'
}

/** Sends a body that is not a stream, and ends the request. */
export function sendBody(body: RequestBody, request: Writable): void {
  if (body.kind === 'bytes') request.end(body.bytes)
  else request.end()
}

/** A body that streams by and is remembered up to a size, so that another attempt can begin at its start. */
class KeptBody {
  readonly #source: IncomingMessage
  readonly #maxBytes: number
  #chunks: Buffer[] = []
  #bytes = 0
  #isWhole = true
  #ended = false
  // The attempt that is being fed. The one before has failed and wants nothing more.
  #reader: Readable | undefined

  constructor(source: IncomingMessage, maxBytes: number) {
    this.#source = source
    this.#maxBytes = maxBytes
  }

  /** Whether all that has come is still here. */
  get isWhole(): boolean {
    return this.#isWhole
  }

  open(): Readable {
    const first = this.#reader === undefined
    this.#reader?.destroy()
    const reader = new Readable({ read: () => void this.#source.resume() })
    this.#reader = reader
    for (const chunk of this.#chunks) reader.push(chunk)
    if (this.#ended) reader.push(null)
    if (first) this.#listen()
    return reader
  }

  #listen(): void {
    this.#source.on('data', (chunk: Buffer) => {
      this.#keep(chunk)
      if (this.#reader?.push(chunk) === false) this.#source.pause()
    })
    this.#source.on('end', () => {
      this.#ended = true
      this.#reader?.push(null)
    })
  }

  #keep(chunk: Buffer): void {
    this.#bytes += chunk.length
    if (this.#bytes <= this.#maxBytes) {
      this.#chunks.push(chunk)
    } else {
      this.#isWhole = false
      this.#chunks = []
    }
  }
}
