// One connection that hears what is published, for all keys of a node. It is said to be up when a message has made the way
// that doorbells take: through the app's client, the server, and back over this connection. One that ends, or on which a
// probe does not come back, is replaced by another, which subscribes to all channels before it is up.

import createDebug from 'debug'
import { Abort, sleep } from '../abort.ts'
import { backoff } from '../backoff.ts'
import { Watchdog } from '../watchdog.ts'
import { ANSWER_MS, answered, messageOf } from './connection.ts'
import type { Redis, RedisSubscriber } from './redis-client.ts'

const debug = createDebug('sse-proxy:redis')

const RETRY_MS = 100
const MAX_RETRY_MS = 2000

// Channels in one command.
const BATCH = 500

/** Whom a subscriber works for. */
export interface SubscriberOwner {
  /** Publishes this to the channel; `writes` makes sure that the server takes writes as well. */
  probe(channel: string, text: string, writes: boolean): Promise<unknown>
  onMessage(channel: string, message: Buffer): void
  onUp(isUp: boolean): void
}

/** A connection in use. */
interface Line {
  readonly redis: RedisSubscriber
  readonly watchdog: Watchdog
  /** Fulfilled with the reason when it has ended. */
  readonly ended: Promise<unknown>
  end(why: unknown): void
}

/** A probe that has been published. */
interface Probe {
  readonly text: string
  heard(): void
}

export class Subscriber {
  readonly #redis: Redis
  readonly #owner: SubscriberOwner
  readonly #probeChannel: string
  readonly #silenceMs: number
  // Undefined while it does not run.
  #running: Abort | undefined
  // Undefined while there is none that is subscribed to all channels.
  #line: Line | undefined
  // By channel, whether the server has confirmed it.
  readonly #channels = new Map<string, Promise<unknown>>()
  #probe: Probe | undefined
  #probes = 0

  /** @param silenceMs after so long without a message it is made sure that messages come */
  constructor(redis: Redis, owner: SubscriberOwner, probeChannel: string, silenceMs: number) {
    this.#redis = redis
    this.#owner = owner
    this.#probeChannel = probeChannel
    this.#silenceMs = silenceMs
  }

  start(): void {
    if (this.#running) return
    this.#running = new Abort()
    void this.#run(this.#running)
  }

  stop(): void {
    this.#running?.abort(undefined)
    this.#running = undefined
    this.#line?.end('it is not needed any more')
  }

  /** @throws Error where there is no connection, or it does not confirm */
  async subscribe(channel: string): Promise<void> {
    const line = this.#line
    if (!line) throw new Error('Redis: there is no connection that subscribes')
    const confirmed = this.#channels.get(channel) ?? answered(line.redis.subscribe([channel]), ANSWER_MS)
    this.#channels.set(channel, confirmed)
    try {
      await confirmed
    } catch (error) {
      line.end(error)
      if (this.#channels.get(channel) === confirmed) this.unsubscribe(channel)
      throw new Error(`Redis: ${messageOf(error)}`)
    }
  }

  unsubscribe(channel: string): void {
    if (this.#channels.delete(channel) && this.#line) this.#leave(this.#line, [channel])
  }

  /** A command has failed: is the connection still good? */
  suspect(): void {
    if (this.#line) this.#verify(this.#line, true)
  }

  async #run(running: Abort): Promise<void> {
    // A client that is about to connect is no server that is away.
    let mayConnectUntil = performance.now() + ANSWER_MS
    for (let tries = 0; !running.aborted; tries++) {
      let why: unknown
      try {
        const line = await this.#connect(running)
        tries = 0
        mayConnectUntil = 0
        this.#owner.onUp(true)
        why = await line.ended
      } catch (error) {
        why = error
      }
      if (running.aborted) return
      debug('no doorbells: %s', messageOf(why))
      if (performance.now() >= mayConnectUntil) this.#owner.onUp(false)
      // An app that has closed its client may be about to end.
      await sleep(backoff(tries, RETRY_MS, MAX_RETRY_MS), running, false).catch(() => {})
    }
  }

  /** @throws Error where it does not come up */
  async #connect(running: Abort): Promise<Line> {
    if (!this.#redis.isReady()) throw new Error('the client is not connected')
    const line = await this.#open()
    const stop = () => line.end('it is not needed any more')
    running.onAbort(stop)
    try {
      // It may have been stopped while there was nothing to be ended.
      if (running.aborted) throw new Error('it is not needed any more')
      await unless(line.ended, this.#prepare(line, running))
      return line
    } catch (error) {
      line.end(error)
      throw error
    } finally {
      running.offAbort(stop)
    }
  }

  async #open(): Promise<Line> {
    let line: Line | undefined
    let end: (why: unknown) => void = () => {}
    const ended = new Promise<unknown>((resolve) => {
      end = resolve
    })
    const opening = this.#redis.subscriber({
      onMessage: (channel, message) => this.#onMessage(line, channel, message),
      onEnd: (why) => line?.end(why ?? new Error('the connection has ended')),
    })
    const redis = await answered(opening, ANSWER_MS)
    const watchdog = new Watchdog(this.#silenceMs, () => line && this.#verify(line, false)).unref()
    line = {
      redis,
      watchdog,
      ended,
      end: (why) => {
        if (this.#line === line) this.#line = undefined
        watchdog.stop()
        redis.close()
        end(why)
      },
    }
    return line
  }

  async #prepare(line: Line, running: Abort): Promise<void> {
    await answered(line.redis.connect(), ANSWER_MS)
    const channels = [this.#probeChannel, ...this.#channels.keys()]
    for (let i = 0; i < channels.length; i += BATCH) {
      await answered(line.redis.subscribe(channels.slice(i, i + BATCH)), ANSWER_MS)
    }
    await this.#heardProbe(true)
    // From here on channels can be added. Those that were left meanwhile are not heard any more.
    if (!running.aborted) this.#line = line
    const left = channels.filter((channel) => channel !== this.#probeChannel && !this.#channels.has(channel))
    if (left.length > 0) this.#leave(line, left)
  }

  #leave(line: Line, channels: readonly string[]): void {
    answered(line.redis.unsubscribe(channels), ANSWER_MS).catch((error) => line.end(error))
  }

  /** Ends a connection over which a probe does not come. In silence heartbeats show whether the server takes writes. */
  #verify(line: Line, writes: boolean): void {
    if (this.#probe === undefined) this.#heardProbe(writes).catch((error) => line.end(error))
  }

  async #heardProbe(writes: boolean): Promise<void> {
    const text = `${this.#probes++}`
    const heard = new Promise<void>((resolve) => {
      this.#probe = { text, heard: resolve }
    })
    try {
      await this.#owner.probe(this.#probeChannel, text, writes)
      await answered(heard, ANSWER_MS)
    } finally {
      this.#probe = undefined
    }
  }

  #onMessage(line: Line | undefined, channel: string, message: Buffer): void {
    line?.watchdog.reset()
    if (channel !== this.#probeChannel) this.#owner.onMessage(channel, message)
    else if (message.toString() === this.#probe?.text) this.#probe.heard()
  }
}

/** The value of a promise, or an error when the other one is fulfilled before. */
function unless<T>(ended: Promise<unknown>, promise: Promise<T>): Promise<T> {
  const failed = ended.then((why): never => {
    throw why
  })
  return Promise.race([promise, failed])
}
