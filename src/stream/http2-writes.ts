// What goes to a client over HTTP/2, where nobody but Node has a part in it: then it is known when the kernel has taken it, and
// the memory that it lies in may be used again.

import type { ServerResponse } from 'node:http'
import { Http2ServerResponse, type ServerHttp2Stream } from 'node:http2'
import { Duplex } from 'node:stream'
import { lieIn } from '../bytes.ts'

// Middleware that replaces `write`, for one response or for all, may keep what it gets. Node's own are these.
const responseWrite: unknown = Reflect.get(Http2ServerResponse.prototype, 'write')
const streamWrite: unknown = Duplex.prototype.write

export class Http2Writes {
  readonly #res: ServerResponse
  readonly #stream: ServerHttp2Stream
  // What has been written, in that order, and how many of the first of it have left. Cut off seldom, since a cut moves all that is
  // behind it: where a client that does not read is sent small events, that is very many.
  #written: Buffer[] = []
  #left = 0

  private constructor(res: ServerResponse, stream: ServerHttp2Stream) {
    this.#res = res
    this.#stream = stream
  }

  /** Undefined where somebody else may keep what is written. */
  static of(res: ServerResponse, stream: ServerHttp2Stream): Http2Writes | undefined {
    return isUntouched(res, stream) ? new Http2Writes(res, stream) : undefined
  }

  /** As `res.write`. Whoever has replaced that in the middle of the stream gets a copy, to keep or to write when it likes. */
  write(bytes: Buffer): boolean {
    if (!isUntouched(this.#res, this.#stream)) return this.#res.write(Buffer.from(bytes))
    this.#written.push(bytes)
    return this.#res.write(bytes, this.#onLeft)
  }

  /** Whether anything on its way lies in this memory. */
  referTo(memory: Buffer): boolean {
    return lieIn(memory, this.#onWay)
  }

  // Of a stream that was destroyed it is not known: its last frame may still be on its way. That is referred to for good.
  readonly #onLeft = (error?: Error | null): void => {
    if (error || this.#stream.destroyed) return
    this.#left++
    if (this.#left * 2 < this.#written.length) return
    this.#written = this.#onWay
    this.#left = 0
  }

  get #onWay(): Buffer[] {
    return this.#written.slice(this.#left)
  }
}

function isUntouched(res: ServerResponse, stream: ServerHttp2Stream): boolean {
  return res.write === responseWrite && stream.write === streamWrite
}
