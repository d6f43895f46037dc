// A client of one node that goes to another when its own is gone, with the last id that it has seen: an EventSource behind a
// load balancer.
import { type ClientRequest, get } from 'node:http'
import { readBlocks } from './event-blocks.ts'

const retryMs = 50

export class FeedClient {
  /** The number of the last event. */
  n = 0
  missed = 0
  repeated = 0
  /** How often the connection was lost. */
  losses = 0
  /** The longest time between two events. */
  silenceMs = 0
  readonly #another: () => string
  #lastEventAt = Number.POSITIVE_INFINITY
  #request: ClientRequest
  #isClosed = false

  /** @param another says where to go when the connection is lost */
  constructor(url: string, another: () => string) {
    this.#another = another
    this.#request = this.#ask(url)
  }

  close(): void {
    this.#isClosed = true
    this.#request.destroy()
  }

  #ask(url: string): ClientRequest {
    const headers = this.n > 0 ? { 'last-event-id': this.n } : {}
    const request = get(url, { agent: false, headers }, (res) => readBlocks(res, (block) => this.#take(block)))
    request.on('error', () => {})
    request.once('close', () => {
      if (this.#isClosed) return
      this.losses += 1
      setTimeout(() => {
        if (!this.#isClosed) this.#request = this.#ask(this.#another())
      }, retryMs)
    })
    return request
  }

  #take(block: string): void {
    const n = Number(/^id: (\d+)$/m.exec(block)?.[1] ?? 0)
    if (n === 0) return
    const now = performance.now()
    this.silenceMs = Math.max(this.silenceMs, now - this.#lastEventAt)
    this.#lastEventAt = now
    if (n <= this.n) this.repeated += 1
    else if (this.n > 0) this.missed += n - this.n - 1
    this.n = Math.max(n, this.n)
  }
}
