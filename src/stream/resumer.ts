// When a lost stream is resumed, and which answers will do: whether another connection can take the place of the last, how long
// to wait before it is tried, and when the stream is given up. What becomes of the connection is the resumed body's affair.

import { type AbortState, sleep } from '../abort.ts'
import { backoff } from '../backoff.ts'
import { StreamError } from '../errors.ts'
import type { Cursor } from '../events/cursor.ts'
import { encodeEventId } from '../events/event-id.ts'
import type { ResumePolicy } from '../options/resolve-resume.ts'
import type { OpenUpstream, UpstreamBody, UpstreamResponse } from '../upstream-response.ts'
import { eventStreamOf } from './event-stream.ts'
import { type EventTimeouts, eventWatched } from './event-watch.ts'

/** Another upstream's events, or the word that there will be none. */
export type Resumed =
  | { readonly response: UpstreamResponse; readonly body: UpstreamBody; readonly attempt: number }
  | 'ended'

/** See the option `timeouts`. */
export type ResumeTimeouts = EventTimeouts & { readonly idleMs: number }

export interface ResumerOptions {
  readonly policy: ResumePolicy
  /** Gets an answer for the next connection. */
  readonly open: OpenUpstream
  /** Where the client stands: the next connection begins behind that. */
  readonly cursor: Cursor
  /** Ends the waits and the tries. */
  readonly signal: AbortState
  /** They bound each connection. */
  readonly timeouts: ResumeTimeouts
  /** Called before each try. */
  readonly onAttempt: (upstream: string, attempt: number) => void
}

// A connection that lasts no longer than this does not say that things are well, whatever it has brought.
const SHORT_MS = 1000

/** Decides for one stream, and tries. */
export class Resumer {
  readonly #options: ResumerOptions
  // Tries since the client has got any further. The stream is given up when there are too many.
  #tries = 0
  // Delays since a connection has brought something and lasted; each is twice the one before. An upstream that sends an id and
  // dies each time is never given up, and would be asked as often as it dies.
  #delays = 0
  // How far the client was when the last loss came; undefined before the first.
  #progressBefore: string | undefined
  // When the latest connection was there, as `performance.now()`, and how long after the loss before it.
  #connectedAt = performance.now()
  #connectingMs = 0

  constructor(options: ResumerOptions) {
    this.#options = options
  }

  /** Ends what is done for the stream. */
  get signal(): AbortState {
    return this.#options.signal
  }

  /** How far the client is. Where there are ids only another one counts: an upstream may send its last event each time, and die again. */
  get progress(): string {
    const { cursor } = this.#options
    return encodeEventId(cursor.lastEventId) || `${cursor.events} events`
  }

  /** Whether to go on, after a loss or after a clean end. */
  shouldResume(outcome: 'complete' | 'lost'): boolean {
    const { policy, cursor, signal } = this.#options
    if (signal.aborted || (outcome === 'complete' && !policy.onEnd)) return false
    // Without an id the upstream would start anew, or from now: both are wrong unless the app says otherwise.
    // The same goes for an id that no header can carry.
    if (encodeEventId(cursor.lastEventId) !== '' || policy.withoutIds) return true
    // A client that has no event yet would ask for the same when it came back by itself.
    return outcome === 'lost' && cursor.lastEventId === '' && cursor.events === 0
  }

  /** Tries until there is a stream again; rejects with the last failure when there is to be none. */
  async resume(lost: Error, upstream: string): Promise<Resumed> {
    const { policy, cursor, signal } = this.#options
    const lostAt = performance.now()
    this.#noteLoss(lostAt)
    let failure: unknown = lost
    while (this.#tries < policy.attempts) {
      const delayMs = resumeDelay(this.#delays++, cursor.retryMs, policy)
      this.#options.onAttempt(upstream, ++this.#tries)
      try {
        await sleep(delayMs, signal)
        const resumed = await this.ask(upstream, signal, this.#tries)
        this.#connectingMs = this.#connectedAt - lostAt
        return resumed
      } catch (error) {
        failure = error
        // An answer that will not do for those who follow: no other try brings them a better one.
        if (error instanceof StreamError) break
      }
      if (signal.aborted) break
    }
    throw failure
  }

  /** Tries once; rejects where another try may do better. */
  async ask(upstream: string, signal: AbortState, attempt = 1): Promise<Resumed> {
    const { open, cursor } = this.#options
    const response = await open({ lastEventId: cursor.lastEventId, avoid: upstream, signal })
    const resumed = judge(response, attempt, this.#options)
    this.#connectedAt = performance.now()
    return resumed
  }

  /** Counts anew what the connection that is lost has made good. */
  #noteLoss(now: number): void {
    const { progress } = this
    if (progress === this.#progressBefore) return
    this.#progressBefore = progress
    this.#tries = 0
    if (now - this.#connectedAt >= Math.max(SHORT_MS, this.#connectingMs)) this.#delays = 0
  }
}

/** What an answer to a resume means; throws where another try may do better. */
function judge(
  response: UpstreamResponse,
  attempt: number,
  { timeouts, cursor }: Pick<ResumerOptions, 'timeouts' | 'cursor'>,
): Resumed {
  const body = eventStreamOf(response, timeouts.idleMs)
  if (body) return { response, body: eventWatched(body, timeouts, cursor), attempt }
  response.body.destroy()
  // The client's own reconnect is to meet this answer, which it alone can read.
  if (response.status === 204 || (response.status >= 400 && response.status < 500)) return 'ended'
  throw new Error(`the upstream answered a resume with status ${response.status}`)
}

// However soon an upstream says that it may be asked again.
const LEAST_RETRY_MS = 100

/** The upstream's own `retry:` where it gave one, doubled with each try, jittered. */
export function resumeDelay(
  tries: number,
  retryMs: number | undefined,
  { delayMs, maxDelayMs }: Pick<ResumePolicy, 'delayMs' | 'maxDelayMs'>,
  chance: () => number = Math.random,
): number {
  const delay = backoff(tries, retryMs ?? delayMs, maxDelayMs, chance)
  // `retry: 0` would have an upstream that dies asked without end, as fast as it can.
  return retryMs === undefined ? delay : Math.max(delay, Math.min(LEAST_RETRY_MS, maxDelayMs))
}
