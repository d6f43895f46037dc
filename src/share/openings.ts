// The books of the requests to upstreams that are shared: by key, by leader, and who waits for which.

import type { Opening, SharingRequest } from './opening.ts'

export class Openings {
  // The answer that a request with that key waits for, or the stream that it follows.
  readonly #byKey = new Map<string, Opening>()
  // All that are not over, also where a request with their key would not follow them any more.
  readonly #byLeader = new Map<SharingRequest, Opening>()
  // What each request waits for that has no answer yet.
  readonly #waiting = new Map<SharingRequest, Opening>()
  /** Set when the proxy closes: what no client follows is not kept from then on, whether it runs or is over. */
  isClosed = false

  /** All that are not over. */
  all(): readonly Opening[] {
    return [...this.#byLeader.values()]
  }

  /** The one that requests with this key join. */
  of(key: string): Opening | undefined {
    return this.#byKey.get(key)
  }

  ledBy(request: SharingRequest): Opening | undefined {
    return this.#byLeader.get(request)
  }

  awaitedBy(request: SharingRequest): Opening | undefined {
    return this.#waiting.get(request)
  }

  add(opening: Opening): void {
    this.#byLeader.set(opening.leader, opening)
    this.#byKey.set(opening.key, opening)
  }

  /** Gives it another key, unless one has that already. */
  rekey(opening: Opening, key: string): void {
    this.leaveKey(opening)
    opening.key = key
    opening.asked = key
    if (!this.#byKey.has(key)) this.#byKey.set(key, opening)
  }

  /** From now on requests with its key open another one. */
  leaveKey(opening: Opening): void {
    if (this.#byKey.get(opening.key) === opening) this.#byKey.delete(opening.key)
  }

  /** It is over, or was for its leader alone. */
  delete(opening: Opening): void {
    opening.lingering?.stop()
    this.leaveKey(opening)
    if (this.#byLeader.get(opening.leader) === opening) this.#byLeader.delete(opening.leader)
  }

  wait(request: SharingRequest, opening: Opening): void {
    opening.waiting.add(request)
    this.#waiting.set(request, opening)
  }

  stopWaiting(request: SharingRequest, opening: Opening): void {
    opening.waiting.delete(request)
    this.#waiting.delete(request)
  }

  /** Those whose client is still there; they wait no longer. */
  takeWaiting(opening: Opening): SharingRequest[] {
    const waiting = [...opening.waiting]
    for (const request of waiting) this.stopWaiting(request, opening)
    return waiting.filter(({ isOver }) => !isOver)
  }
}
