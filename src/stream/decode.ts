// Content codings of an upstream that compresses an event stream in spite of being asked not to. Every piece that
// arrives is decoded at once, so that an event does not wait for the next one.

import type { Transform } from 'node:stream'
import zlib from 'node:zlib'
import { type BodySink, headerOf, type UpstreamBody, type UpstreamResponse } from '../upstream-response.ts'

// `flush` gives what has been decoded so far, which zlib would keep until there is more of it.
type Decoder = Transform & Pick<zlib.Zlib, 'flush'>
type CreateDecoder = (firstByte: number) => Decoder

// Where Node has it; the types of older releases do not know it.
const createZstd: unknown = Reflect.get(zlib, 'createZstdDecompress')

// By the name of the coding. What is not here is passed on as it is, for the client to decode.
const DECODERS = new Map<string, CreateDecoder>([
  ['gzip', () => zlib.createGunzip()],
  ['x-gzip', () => zlib.createGunzip()],
  // Some send the bare algorithm under this name; the first byte tells.
  ['deflate', (firstByte) => ((firstByte & 0x0f) === 8 ? zlib.createInflate() : zlib.createInflateRaw())],
  ['br', () => zlib.createBrotliDecompress()],
])
if (isDecoderFactory(createZstd) && noticesTruncation()) DECODERS.set('zstd', () => createZstd())

function isDecoderFactory(value: unknown): value is () => Decoder {
  return typeof value === 'function'
}

/** Some releases of Node take a cut zstd frame for a complete one; there a stream that was cut would look complete. */
function noticesTruncation(): boolean {
  const compress: unknown = Reflect.get(zlib, 'zstdCompressSync')
  const decompress: unknown = Reflect.get(zlib, 'zstdDecompressSync')
  if (typeof compress !== 'function' || typeof decompress !== 'function') return false
  const frame: Buffer = compress(Buffer.from('data: x'))
  try {
    decompress(frame.subarray(0, -3))
    return false
  } catch {
    return true
  }
}

/** The decoders that undo a Content-Encoding, outermost last; undefined when one of them is not known. */
function decodersFor(contentEncoding: string): readonly CreateDecoder[] | undefined {
  const decoders: CreateDecoder[] = []
  for (const coding of contentEncoding.toLowerCase().split(',')) {
    const name = coding.trim()
    if (name === '' || name === 'identity') continue
    const decoder = DECODERS.get(name)
    if (!decoder) return undefined
    decoders.unshift(decoder)
  }
  return decoders
}

/** The body in plain, or undefined when its coding is not known here. */
export function decodedBody(response: UpstreamResponse): UpstreamBody | undefined {
  const contentEncoding = headerOf(response, 'content-encoding')
  if (contentEncoding === undefined) return response.body
  return decodersFor(contentEncoding)?.reduce<UpstreamBody>(
    (body, create) => new DecodedBody(body, create),
    response.body,
  )
}

/** Undoes one coding: what is coded comes in as a sink's data, what is plain goes out as a body's. */
class DecodedBody implements UpstreamBody, BodySink {
  readonly #coded: UpstreamBody
  readonly #create: CreateDecoder
  // Made with the first byte, which may say which of two codings it is; an empty body needs none.
  #decoder: Decoder | undefined
  // The consumer. Undefined before `start`, and when it is to hear nothing more: after `destroy` or a loss.
  #sink: BodySink | undefined
  // The ending, which comes when the consumer has all that was decoded before it: while it is paused, that waits.
  #then: (() => void) | undefined

  constructor(coded: UpstreamBody, create: CreateDecoder) {
    this.#coded = coded
    this.#create = create
  }

  get hasBegun(): boolean | undefined {
    return this.#coded.hasBegun
  }

  start(sink: BodySink): void {
    this.#sink = sink
    this.#coded.start(this)
  }

  // Backpressure goes through both: the decoder would fill its own buffer.
  pause(): void {
    this.#decoder?.pause()
    this.#coded.pause()
  }

  unpause(): void {
    this.#decoder?.resume()
    this.#coded.unpause()
  }

  destroy(why?: 'given-up' | 'silent'): void {
    this.#sink = undefined
    this.#then = undefined
    this.#decoder?.destroy()
    this.#coded.destroy(why)
  }

  judge(isWhole: boolean): void {
    this.#coded.judge?.(isWhole)
  }

  onData(chunk: Buffer): void {
    this.#decoder ??= this.#open(chunk[0] ?? 0)
    // Until the decoder's 'drain'.
    if (!this.#decoder.write(chunk)) this.#coded.pause()
  }

  // What came before an ending is decoded in a thread, and may be an event. A decoder that is ended at once fails without it
  // where the end of the coding is missing.

  onEnd(): void {
    const decoder = this.#decoder
    if (!decoder) this.#sink?.onEnd()
    else if (!decoder.destroyed) this.#flush(decoder, () => decoder.end())
  }

  onBroken(cause: Error): void {
    const decoder = this.#decoder
    if (!decoder || decoder.destroyed) this.#break(cause)
    else this.#flush(decoder, () => this.#break(cause))
  }

  /** Calls back when all that has come is decoded and passed on. */
  #flush(decoder: Decoder, then: () => void): void {
    decoder.flush(() => {
      this.#then = then
      this.#passedOn(decoder)
    })
  }

  #passedOn(decoder: Decoder): void {
    if (decoder.readableLength > 0) return
    const then = this.#then
    this.#then = undefined
    then?.()
  }

  #break(cause: Error): void {
    const sink = this.#sink
    this.#sink = undefined
    this.#decoder?.destroy()
    sink?.onBroken(cause)
  }

  /** A decoder that fails has met damage: the body is lost, and its connection is given up. */
  #open(firstByte: number): Decoder {
    const decoder = this.#create(firstByte)
    decoder.on('data', (chunk: Buffer) => {
      this.#sink?.onData(chunk)
      this.#passedOn(decoder)
    })
    decoder.on('drain', () => this.#coded.unpause())
    decoder.on('end', () => this.#sink?.onEnd())
    decoder.on('error', (error) => {
      this.#break(error)
      this.#coded.destroy()
    })
    return decoder
  }
}
