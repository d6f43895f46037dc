// An endpoint that tells a state as JSON, with an ETag, and knows nothing of streams: pages used to ask it again and again.
import { Backend, type Via, viaOf } from './backend.ts'

export class Status {
  readonly backend: Backend
  readonly #requests: Record<Via, number> = { proxied: 0, plain: 0 }
  #build = 1

  constructor() {
    this.backend = new Backend('status', (req, res) => {
      this.#requests[viaOf(req.headers)] += 1
      const etag = `"${this.#build}"`
      if (req.headers['if-none-match'] === etag) return void res.writeHead(304, { etag }).end()
      res.writeHead(200, { 'content-type': 'application/json', etag }).end(JSON.stringify({ build: this.#build }))
    })
  }

  /** What it tells now. */
  get build(): number {
    return this.#build
  }

  /** How often it was asked so far. */
  requests(via: Via): number {
    return this.#requests[via]
  }

  /** From now on it tells something new, which is returned. */
  change(): number {
    this.#build += 1
    return this.#build
  }

  start(): Promise<void> {
    return this.backend.start()
  }

  stop(): Promise<void> {
    return this.backend.stop()
  }
}
