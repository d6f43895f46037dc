// The body of an upstream's answer, from its head to its end. By now http-proxy-middleware has done its part, and
// nothing of it is kept: an open stream may live for days.

import type { ClientRequest, IncomingMessage } from 'node:http'
import { ChunkLane, chunksAfterHead, type LaneOwner } from '../fast-lane/lane.ts'
import type { BodySink, UpstreamBody } from '../upstream-response.ts'

/** How an answer ended that had begun. */
export type BodyEnding = 'complete' | 'broken' | 'silent' | 'given-up'

/** Told once for each. */
export interface OnOver {
  onOver(ending: BodyEnding): void
  /** Told after that, where it is known by then whether the stream in it was whole: see `UpstreamBody.judge`. */
  onJudged(isWhole: boolean): void
}

// What a read of a socket brings at most. An answer that brings more before `start` is paused.
const ONE_READ_BYTES = 65_536

export class ResponseBody implements UpstreamBody, LaneOwner {
  /** How much data Node's parser has brought. */
  parsedBytes = 0
  // The answer as Node has it.
  readonly #source: IncomingMessage
  // The request that it answers; undefined where httpxy has shown none.
  readonly #request: ClientRequest | undefined
  readonly #onOver: OnOver | undefined
  // Set from `start` to the end.
  #sink: BodySink | undefined
  // What came between the head and `start`: what was read together with the head, and hardly ever more.
  #early: Buffer[] | undefined
  // The one read that brought all of the head, and what came with it; undefined where there were more, and after `start`.
  #headRead: Buffer | undefined
  // The fast lane, where the answer may take it; from then on Node's parser gets only what the lane leaves to it.
  #lane: ChunkLane | undefined
  // What was wrong with the connection, where it has told the request.
  #cause: Error | undefined
  // Who is to blame where the body breaks: the upstream, or an app that has destroyed the answer.
  #overAs: 'broken' | 'given-up' = 'broken'
  // How the body ended, once it has; told to the sink when there is one.
  #outcome: 'complete' | 'given-up' | Error | undefined

  constructor(
    source: IncomingMessage,
    request: ClientRequest | undefined,
    headRead: Buffer | undefined,
    onOver: OnOver | undefined,
  ) {
    this.#headRead = headRead
    this.#source = source
    this.#request = request
    this.#onOver = onOver
    const broken = (error?: Error) => {
      // Every answer closes, and an error costs some microseconds even where it is not used.
      if (this.#outcome !== undefined) return
      // A connection that fails always says so, with a code: it was the app that has destroyed the answer.
      const cause = this.#cause ?? error
      if (!(cause && 'code' in cause)) this.#overAs = 'given-up'
      this.#finish(cause ?? new Error('the answer was destroyed before its end'))
    }
    source.on('data', (chunk: Buffer | string) => this.#take(chunk))
    // Node takes a body that ends with its connection for complete, whatever the connection ended with.
    source.on('end', () => (this.#cause && !isDelimited(source) ? broken() : this.#finish('complete')))
    source.on('error', broken)
    source.on('close', broken)
    // Told again by the answer, behind what has been read of it: at once it would overtake that. What is wrong behind a
    // whole answer is not.
    request?.on('error', (error) => {
      this.#cause = error
    })
  }

  /** Undefined before `start`, after the end, and after `destroy`. */
  get sink(): BodySink | undefined {
    return this.#sink
  }

  get hasBegun(): boolean {
    return this.#early !== undefined
  }

  start(sink: BodySink): void {
    this.#sink = sink
    const headRead = this.#headRead
    this.#headRead = undefined
    const chunks = headRead && sink.onChunks && chunksAfterHead(headRead, this.#source)
    if (chunks && this.#outcome === undefined) this.#lane = ChunkLane.enter(this.#source, chunks, this)
    if (this.#hasManyEarly) this.#source.resume()
    const early = this.#early ?? []
    this.#early = undefined
    for (const chunk of early) sink.onData(chunk)
    if (this.#outcome !== undefined && this.#outcome !== 'given-up') this.#tell(this.#outcome)
  }

  pause(): void {
    this.#source.pause()
    this.#lane?.pause()
  }

  unpause(): void {
    this.#source.resume()
    this.#lane?.unpause()
  }

  destroy(why: 'given-up' | 'silent' = 'given-up'): void {
    this.#sink = undefined
    // Its connection may be another request's by now.
    if (this.#outcome === 'complete') return
    if (this.#outcome === undefined) {
      this.#outcome = 'given-up'
      this.#onOver?.onOver(why)
    }
    this.#request?.destroy()
    if (this.#request && this.#isWatched) return
    this.#source.destroy()
    // Of an answer that is not, Node makes an error once the connection is closed, which costs more than all of this.
    this.#source.complete = true
  }

  judge(isWhole: boolean): void {
    this.#onOver?.onJudged(isWhole)
  }

  /** Whether the app listens to how the answer ends, and has to be told as Node tells it. */
  get #isWatched(): boolean {
    const source = this.#source
    return source.listenerCount('close') > 1 || source.listenerCount('error') > 1 || source.listenerCount('aborted') > 0
  }

  #take(read: Buffer | string): void {
    // A handler of the app's may have asked for text.
    const chunk = typeof read === 'string' ? Buffer.from(read, this.#source.readableEncoding ?? 'utf8') : read
    this.parsedBytes += chunk.length
    if (this.#sink) this.#sink.onData(chunk)
    else if (this.#outcome === undefined) this.#keep(chunk)
  }

  #keep(chunk: Buffer): void {
    if (this.#early) this.#early.push(chunk)
    else this.#early = [chunk]
    if (this.#hasManyEarly) this.#source.pause()
  }

  /** Before `start`, whatever has come is early. */
  get #hasManyEarly(): boolean {
    return this.parsedBytes > ONE_READ_BYTES
  }

  #finish(outcome: 'complete' | Error): void {
    if (this.#outcome !== undefined) return
    this.#outcome = outcome
    this.#onOver?.onOver(outcome === 'complete' ? 'complete' : this.#overAs)
    this.#tell(outcome)
  }

  #tell(outcome: 'complete' | Error): void {
    const sink = this.#sink
    this.#sink = undefined
    if (outcome === 'complete') sink?.onEnd()
    else sink?.onBroken(outcome)
  }
}

/** Whether the body says where it ends. One that does not ends with its connection, and may have been cut. */
export function isDelimited({ headers }: Pick<IncomingMessage, 'headers'>): boolean {
  return headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined
}
