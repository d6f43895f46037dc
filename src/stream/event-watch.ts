// The options `timeouts.firstEventMs` and `timeouts.eventMs`: an upstream that sends no event for so long counts as lost,
// whatever comments it sends. Events are counted by the cursor of the stream, which is looked at a few times in each wait, so
// that an event costs nothing here. Absent where both are off.

import type { Progress } from '../events/cursor.ts'
import type { UpstreamBody, UpstreamResponse } from '../upstream-response.ts'
import { Watchdog } from '../watchdog.ts'
import { type SilenceWatch, WatchedBody } from './watched-body.ts'

/** See the option `timeouts`; 0 means no timeout. */
export interface EventTimeouts {
  readonly firstEventMs: number
  readonly eventMs: number
}

/**
 * The body of one connection, given up where events stay away; the body itself where there is no such bound.
 * @param begun the wait that is on already
 */
export function eventWatched(
  body: UpstreamBody,
  { firstEventMs, eventMs }: EventTimeouts,
  progress: Pick<Progress, 'events'>,
  begun?: UpstreamResponse['eventWait'],
): UpstreamBody {
  if (firstEventMs === 0 && eventMs === 0) return body
  return new WatchedBody(body, new EventWatch({ firstEventMs, eventMs }, progress, begun))
}

class EventWatch implements SilenceWatch {
  readonly #timeouts: EventTimeouts
  // Counts what has passed of the stream, on all of its connections.
  readonly #progress: Pick<Progress, 'events'>
  // What a hold has left of a wait. Undefined where there was none, and from the start of that wait on: the next one is whole.
  #begun: UpstreamResponse['eventWait']
  // How many there were when that was looked at last.
  #events = 0
  // Whether this connection has brought none yet.
  #awaitsFirst = true
  // The one timer: until the first event, and then between events. Undefined where the wait that is on has no bound.
  #watchdog: Watchdog | undefined
  #onSilence: ((cause: Error) => void) | undefined
  // Set by `stop`. What is looked at after that starts no timer.
  #isOver = false

  constructor(timeouts: EventTimeouts, progress: Pick<Progress, 'events'>, begun: UpstreamResponse['eventWait']) {
    this.#timeouts = timeouts
    this.#progress = progress
    this.#begun = begun
  }

  start(onSilence: (cause: Error) => void): void {
    this.#onSilence = onSilence
    this.#events = this.#progress.events
    if (this.#timeouts.firstEventMs > 0) this.#wait('firstEventMs')
    // A connection that resumes a stream ends a silence between two events.
    else if (this.#events > 0) this.#wait('eventMs')
  }

  onRead(): void {
    // Behind what frames and counts what was read.
    if (this.#awaitsFirst) setImmediate(look, this)
  }

  onUnpaused(): void {
    this.#watchdog?.reset()
    this.onRead()
  }

  stop(): void {
    this.#isOver = true
    this.#watchdog?.stop()
  }

  /** Whether there have been events since this was asked last. */
  hasMoved(): boolean {
    const { events } = this.#progress
    if (events === this.#events || this.#isOver) return false
    this.#events = events
    if (this.#awaitsFirst) this.#onFirst()
    return true
  }

  #onFirst(): void {
    this.#awaitsFirst = false
    this.#watchdog?.stop()
    this.#watchdog = undefined
    this.#wait('eventMs')
  }

  #wait(timeout: keyof EventTimeouts): void {
    const ms = this.#timeouts[timeout]
    if (ms === 0) return
    const begun = this.#begun?.timeout === timeout ? this.#begun : undefined
    if (begun) this.#begun = undefined
    const onSilence = () => this.#onSilence?.(new Error(`no event in timeouts.${timeout}, ${ms} ms`))
    this.#watchdog = new Watchdog(begun?.leftMs ?? ms, onSilence, () => this.hasMoved())
  }
}

function look(watch: EventWatch): void {
  watch.hasMoved()
}
