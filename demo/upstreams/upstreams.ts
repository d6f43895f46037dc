// All backends of the demo, together.
import type { Backend, Via } from './backend.ts'
import { Chat, lastingAnswer } from './chat.ts'
import { Flood } from './flood.ts'
import { Jobs } from './jobs.ts'
import { Notifications } from './notifications.ts'
import { Ticker } from './ticker.ts'

export class Upstreams {
  readonly ticker = new Ticker()
  readonly notifications = new Notifications()
  readonly jobs = new Jobs()
  readonly chat = new Chat()
  readonly answers = new Chat('answers', lastingAnswer.repeat(4))
  readonly flood = new Flood()

  get backends(): readonly Backend[] {
    const { ticker, notifications, jobs, chat, answers, flood } = this
    return [...ticker.backends, ...notifications.backends, jobs.backend, chat.backend, answers.backend, flood.backend]
  }

  /** Event streams that the backends serve through one of the app's two routes. */
  countStreams(via: Via): number {
    return this.backends.reduce((sum, backend) => sum + backend.countStreams(via), 0)
  }

  async start(): Promise<void> {
    const { ticker, notifications, jobs, chat, answers, flood } = this
    await Promise.all([ticker, notifications, jobs, chat, answers, flood].map((upstream) => upstream.start()))
  }

  async stop(): Promise<void> {
    const { ticker, notifications, jobs, chat, answers, flood } = this
    await Promise.all([ticker, notifications, jobs, chat, answers, flood].map((upstream) => upstream.stop()))
  }

  /** Every backend is gone for a while and comes back at its address. */
  async restart(downMs: number): Promise<void> {
    await Promise.all(this.backends.map((backend) => backend.stop()))
    await new Promise((resolve) => setTimeout(resolve, downMs))
    await Promise.all(this.backends.map((backend) => backend.start()))
  }
}
