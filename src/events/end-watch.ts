// The option `isEnd`: where the app says that a stream is complete. It looks at the upstream's events before the hooks, as
// the first of them, so that each event is parsed once. A pipeline has one for each stream, and none where the option is off.

import type { IncomingMessage } from 'node:http'
import { isUpstreamsFault, StreamError } from '../errors.ts'
import type { StreamEvent, TransformHook } from './event.ts'
import { createBlockParser } from './event-text.ts'

/** Whether this event is the last one of a complete stream. */
export type IsEnd = (event: StreamEvent, req: IncomingMessage) => boolean

export class EndWatch {
  /** Keeps every event as it came, and looks whether it is the end. Events behind the end are not looked at. */
  readonly hook: TransformHook
  readonly #isEnd: IsEnd
  readonly #req: IncomingMessage
  // Set by the event that is the end, for good.
  #isSeen = false

  constructor(isEnd: IsEnd, req: IncomingMessage) {
    this.#isEnd = isEnd
    this.#req = req
    this.hook = (event) => this.#look(event)
  }

  /** Whether the end has passed. */
  get isSeen(): boolean {
    return this.#isSeen
  }

  /**
   * What the end of the body is, now that all before it has passed: undefined for a good one.
   * @param cut how the body was cut short; undefined where it ended by itself
   * @param tail an event that the upstream left unfinished: where the body ended by itself, it may be the end
   * @throws what the app's function throws
   */
  lossOf(cut: StreamError | undefined, tail: readonly Buffer[]): StreamError | undefined {
    if (!cut && !this.#isSeen && tail.length > 0) this.#lookAtTail(Buffer.concat(tail))
    if (!this.#isSeen) return cut ?? new StreamError('ERR_SSE_PROXY_INCOMPLETE')
    // What comes behind the end is lost with the connection. An event that could not be taken is another matter.
    return cut && !isUpstreamsFault(cut) ? cut : undefined
  }

  #look(event: StreamEvent): void {
    if (!this.#isSeen) this.#isSeen = this.#isEnd(event, this.#req)
  }

  #lookAtTail(tail: Buffer): void {
    const event = createBlockParser()(`${tail.toString('utf8')}\n\n`)
    if (event) this.#look(event)
  }
}
