// All backends of the demo, together.
import type { Backend, Via } from './backend.ts'
import { Chat, lastingAnswer } from './chat.ts'
import { Flood } from './flood.ts'
import { Jobs } from './jobs.ts'
import { Lines } from './lines.ts'
import { Models } from './models.ts'
import { Notifications } from './notifications.ts'
import { SecureFeed } from './secure-feed.ts'
import { Status } from './status.ts'
import { Ticker } from './ticker.ts'

export class Upstreams {
  readonly ticker = new Ticker()
  readonly notifications = new Notifications()
  readonly jobs = new Jobs()
  readonly chat = new Chat()
  readonly answers = new Chat('answers', lastingAnswer.repeat(4))
  readonly flood = new Flood()
  readonly models = new Models()
  readonly lines = new Lines()
  readonly status = new Status()
  readonly secure = new SecureFeed()

  get backends(): readonly (Backend | SecureFeed)[] {
    return [...this.#backends, this.secure]
  }

  /** Connections on which the backends serve streams through one of the app's two routes: over HTTP/1.1 one for each stream. */
  countConnections(via: Via): number {
    return this.#backends.reduce((sum, backend) => sum + backend.countStreams(via), this.secure.countConnections(via))
  }

  async start(): Promise<void> {
    await Promise.all(this.#all.map((upstream) => upstream.start()))
  }

  async stop(): Promise<void> {
    await Promise.all(this.#all.map((upstream) => upstream.stop()))
  }

  /** Every backend is gone for a while and comes back at its address. */
  async restart(downMs: number): Promise<void> {
    await Promise.all(this.backends.map((backend) => backend.stop()))
    await new Promise((resolve) => setTimeout(resolve, downMs))
    await Promise.all(this.backends.map((backend) => backend.start()))
  }

  get #backends(): readonly Backend[] {
    const { ticker, notifications, jobs, chat, answers, flood, models, lines, status } = this
    const single = [jobs, chat, answers, flood, lines, status].map(({ backend }) => backend)
    return [...ticker.backends, ...notifications.backends, ...models.backends, ...single]
  }

  get #all(): readonly { start(): Promise<void>; stop(): Promise<void> }[] {
    const { ticker, notifications, jobs, chat, answers, flood, models, lines, status, secure } = this
    return [ticker, notifications, jobs, chat, answers, flood, models, lines, status, secure]
  }
}
