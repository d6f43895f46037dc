// Commands over the app's client: each settles within a bound, none is kept for a connection that is to come, and what the
// client still holds of those that were given up is bounded too.

import createDebug from 'debug'
import { Watchdog } from '../watchdog.ts'
import type { Script } from './log-script.ts'
import type { Argument, Redis } from './redis-client.ts'

const debug = createDebug('sse-proxy:redis')

/** For how long an answer is waited for. */
export const ANSWER_MS = 2000

// So much may be with the client without an answer, commands included that were given up. A server that does not read
// lets it grow with each command.
const MAX_UNANSWERED_BYTES = 67_108_864
const COMMAND_BYTES = 256

// With so much on its way what is added to other keys waits. Heartbeats, which come behind it, would be late otherwise when
// many streams bring more than the server takes, and a server that is only busy would be taken for one that is away.
const MAX_ADDING_BYTES = 262_144

/** An addition that waits. */
interface Waiting {
  readonly bytes: number
  send(): void
  fail(error: Error): void
}

export class Connection {
  readonly #redis: Redis
  readonly #onFailure: (error: Error) => void
  #unansweredBytes = 0
  // Of additions that were sent; the others wait, in their order.
  #addingBytes = 0
  readonly #waiting: Waiting[] = []

  /** @param onFailure told of each command that failed */
  constructor(redis: Redis, onFailure: (error: Error) => void) {
    this.#redis = redis
    this.#onFailure = onFailure
  }

  get isReady(): boolean {
    return this.#redis.isReady()
  }

  /** @throws Error where there is no answer in time, or it is an error */
  async send(key: string, ...command: readonly Argument[]): Promise<unknown> {
    try {
      return await this.#send(key, command)
    } catch (error) {
      throw this.#failed(error)
    }
  }

  /** Runs a script by its name, and with its text on a server that does not know it. */
  async run({ sha, text }: Script, keys: readonly string[], args: readonly Argument[]): Promise<unknown> {
    const [key = ''] = keys
    const rest = [`${keys.length}`, ...keys, ...args]
    try {
      return await this.#send(key, ['EVALSHA', sha, ...rest])
    } catch (error) {
      if (!messageOf(error).startsWith('NOSCRIPT')) throw this.#failed(error)
    }
    return await this.send(key, 'EVAL', text, ...rest)
  }

  /** The same, for what may be much. It waits for what was added before, unless the server does not answer. */
  async add(script: Script, keys: readonly string[], args: readonly Argument[]): Promise<unknown> {
    const bytes = sizeOf(args)
    if (this.#waiting.length > 0 || !this.#isRoomFor(bytes)) {
      await new Promise<void>((send, fail) => this.#waiting.push({ bytes, send, fail }))
    } else {
      this.#addingBytes += bytes
    }
    try {
      return await this.run(script, keys, args)
    } finally {
      this.#addingBytes -= bytes
      this.#sendWaiting()
    }
  }

  /** A command had no answer in time. Those that wait would have none either. */
  #failWaiting(error: Error): void {
    const failure = this.#waiting.length > 0 ? this.#failed(error) : error
    for (const { fail } of this.#waiting.splice(0)) fail(failure)
  }

  /** One that is larger than all that may be on its way goes alone. */
  #isRoomFor(bytes: number): boolean {
    return this.#addingBytes === 0 || this.#addingBytes + bytes <= MAX_ADDING_BYTES
  }

  #sendWaiting(): void {
    for (let [next] = this.#waiting; next && this.#isRoomFor(next.bytes); [next] = this.#waiting) {
      this.#waiting.shift()
      this.#addingBytes += next.bytes
      next.send()
    }
  }

  async #send(key: string, command: readonly Argument[]): Promise<unknown> {
    if (!this.#redis.isReady()) throw new Error('the client is not connected')
    const bytes = sizeOf(command)
    if (this.#unansweredBytes + bytes > MAX_UNANSWERED_BYTES) throw new Error('too much has not been answered')
    const reply = this.#redis.send(key, command)
    this.#unansweredBytes += bytes
    const settle = () => {
      this.#unansweredBytes -= bytes
    }
    reply.then(settle, settle)
    return await answered(reply, ANSWER_MS, (error) => this.#failWaiting(error))
  }

  #failed(error: unknown): Error {
    // What a client adds to its errors, such as the arguments of the command, stays out of logs.
    const failure = new Error(`Redis: ${messageOf(error)}`)
    debug('%s', failure.message)
    this.#onFailure(failure)
    return failure
  }
}

function sizeOf(command: readonly Argument[]): number {
  return command.reduce((sum, { length }) => sum + length, COMMAND_BYTES)
}

/** The value of the promise, or an error when it has not come in time; time in which this process stood still does not count. */
export function answered<T>(promise: Promise<T>, ms: number, onLate?: (error: Error) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const watchdog = new Watchdog(ms, () => {
      watchdog.stop()
      const error = new Error(`no answer for ${ms} ms`)
      onLate?.(error)
      reject(error)
    }).unref()
    promise.finally(() => watchdog.stop()).then(resolve, reject)
  })
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error)
}
