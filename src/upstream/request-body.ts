// The body of a client's request, as it can be sent to an upstream: none, still unread, or read by a body parser
// that ran before and made into bytes again.

import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import { Readable, type Writable } from 'node:stream'
import { kept } from '../bytes.ts'
import { UpstreamError } from '../errors.ts'

/** How a body can be sent: not at all, in one piece, once as it comes, or as it comes and again from what was kept. */
export type RequestBody =
  | { readonly kind: 'none' }
  | { readonly kind: 'bytes'; readonly bytes: Buffer; readonly isRebuilt: boolean }
  | { readonly kind: 'stream'; readonly source: IncomingMessage }
  | { readonly kind: 'kept'; readonly kept: KeptBody }

/**
 * @param keepBytes how much of an unread body to keep, so that it can be sent again; 0 keeps nothing.
 * @throws UpstreamError when the body was read by someone who left nothing of it behind.
 */
export function requestBody(req: IncomingMessage, keepBytes: number): RequestBody {
  if (!announcesBody(req)) return { kind: 'none' }
  if (!req.readableEnded) {
    // A request that fails is a client that has left, which its response tells. Without a listener the error would end the process.
    req.on('error', () => {})
    return keepBytes > 0 ? { kind: 'kept', kept: new KeptBody(req, keepBytes) } : { kind: 'stream', source: req }
  }
  const parsed: unknown = 'body' in req ? req.body : undefined
  if (Buffer.isBuffer(parsed)) return { kind: 'bytes', bytes: parsed, isRebuilt: false }
  const text = parsed === undefined ? undefined : textOfParsed(parsed, req)
  if (text === undefined) throw new UpstreamError('ERR_SSE_PROXY_BODY_CONSUMED')
  return { kind: 'bytes', bytes: Buffer.from(text), isRebuilt: true }
}

/** Node resets an HTTP/2 stream that ends before the end of its request was read, even where that is all there is to read. */
export function readEmptyBody(req: IncomingMessage): void {
  if (req.httpVersionMajor > 1 && !announcesBody(req)) req.resume()
}

/** Whether the client has sent all of the body, and all of it has been read. */
export function isBodyRead(req: IncomingMessage): boolean {
  return req.readableEnded || !announcesBody(req)
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

function textOfParsed(parsed: unknown, { headers }: IncomingMessage): string | undefined {
  const type = headers['content-type'] ?? ''
  if (typeof parsed === 'string') return isJsonValue(parsed, headers) ? JSON.stringify(parsed) : parsed
  if (/^application\/x-www-form-urlencoded\b/i.test(type)) return formOf(parsed)
  // A multipart body cannot be rebuilt from what its parser leaves.
  return /^multipart\//i.test(type) ? undefined : JSON.stringify(parsed)
}

/** A text parser leaves the JSON text itself, a JSON parser a string out of it, which was longer by its quotes. */
function isJsonValue(parsed: string, headers: IncomingMessage['headers']): boolean {
  if (!/[/+]json\b/i.test(headers['content-type'] ?? '')) return false
  try {
    JSON.parse(parsed)
  } catch {
    return true
  }
  const length = headers['content-encoding'] === undefined ? headers['content-length'] : undefined
  return length !== undefined && Buffer.byteLength(JSON.stringify(parsed)) === Number(length)
}

/** A form: repeated names for lists, brackets for what is nested and for a list of one, which is no list without. */
function formOf(value: unknown, name = ''): string {
  if (!isContainer(value)) return `${encodeURIComponent(name)}=${encodeURIComponent(String(value ?? ''))}`
  const isList = Array.isArray(value) && name !== ''
  const isFlat = isList && !value.some(isContainer)
  const suffix = (key: string) => (isFlat ? (value.length === 1 ? '[]' : '') : `[${key}]`)
  return Object.entries(value)
    .map(([key, item]) => formOf(item, name === '' ? key : `${name}${suffix(key)}`))
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
    if (body.isRebuilt) describeRebuilt(headers)
  } else if (isStreaming(body) && headers['content-length'] === undefined) {
    headers['transfer-encoding'] = 'chunked'
  }
}

/** Other bytes than the client's, in UTF-8. */
function describeRebuilt(headers: OutgoingHttpHeaders): void {
  for (const name of ['content-md5', 'digest', 'content-digest', 'repr-digest']) delete headers[name]
  const type = headers['content-type']
  if (typeof type === 'string')
    headers['content-type'] = type.replace(/(;\s*charset=)("?)(?!utf-?8\b)[^";]*\2/i, '$1utf-8')
}

/** The body as a stream to read from, for one attempt; undefined where it is sent in one piece. */
export function openBody(body: RequestBody): Readable | undefined {
  if (body.kind === 'stream') return body.source
  return body.kind === 'kept' ? body.kept.open() : undefined
}

/** Whether its length is not known here, and it is sent as it comes. */
export function isStreaming({ kind }: RequestBody): boolean {
  return kind === 'stream' || kind === 'kept'
}

/** Whether the body can be sent once more. */
export function isReplayable(body: RequestBody): boolean {
  return body.kind === 'kept' ? body.kept.isWhole : body.kind !== 'stream'
}

/** The body as a stream, where it is none yet. */
export function readableOf(body: RequestBody): Readable {
  return Readable.from(body.kind === 'bytes' ? [body.bytes] : [])
}

// How much of a body has to come within `timeouts.responseMs` for that wait to begin anew: with the default, 35 bytes a second.
// A byte now and then would hold an upstream for as long as a client likes.
const PROGRESS_BYTES = 4096

/** Calls back each time that enough of a body has come to count as progress, and at its end. Returns what stops that. */
export function onUploadProgress(upload: Readable, onProgress: () => void): () => void {
  let bytes = 0
  const onData = ({ length }: Buffer) => {
    bytes += length
    if (bytes < PROGRESS_BYTES) return
    bytes = 0
    onProgress()
  }
  upload.on('data', onData).on('end', onProgress)
  return () => upload.off('data', onData).off('end', onProgress)
}

/** There will be no further attempt: what was kept for one is let go. */
export function forgetBody(body: RequestBody): void {
  if (body.kind === 'kept') body.kept.forget()
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
  // What has come so far. Small pieces are joined: a byte by itself would take two hundred. Empty once it was more than #maxBytes
  // or is not needed any more.
  #pieces: readonly Buffer[] = []
  // How much has come, kept or not.
  #bytes = 0
  // False from the moment that something was let go: another attempt would send half a body.
  #isWhole = true
  // Whether the client has sent the end.
  #ended = false
  // The stream of the latest attempt. That of the one before is destroyed, so that it takes nothing more.
  #reader: Readable | undefined

  constructor(source: IncomingMessage, maxBytes: number) {
    this.#source = source
    this.#maxBytes = maxBytes
  }

  /** Whether all that has come is still here. */
  get isWhole(): boolean {
    return this.#isWhole
  }

  forget(): void {
    this.#isWhole = false
    this.#pieces = []
  }

  /** All of the body from its start. Backpressure of the reader pauses the client. */
  open(): Readable {
    const first = this.#reader === undefined
    this.#reader?.destroy()
    const reader = new Readable({ read: () => void this.#source.resume() })
    this.#reader = reader
    for (const piece of this.#pieces) reader.push(piece)
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
    if (this.#bytes > this.#maxBytes) this.forget()
    else if (this.#isWhole) this.#pieces = kept(this.#pieces, chunk)
  }
}
