// The lifecycle of streams on node:diagnostics_channel, for tracers, loggers and tests. A channel without subscribers costs
// a look. Subscribers run synchronously, in the middle of the proxy's work; Node reports what one of them throws as an
// uncaught exception of the process, after that work.

import { type Channel, channel } from 'node:diagnostics_channel'
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import createDebug from 'debug'
import type { CloseReason, SseProxyError } from '../errors.ts'
import type { SseStream } from '../events/event.ts'

const debug = createDebug('sse-proxy:error')

/** On `sse-proxy:request`: a request has come in, and nothing has been done about it. Runs in the async context of its own. */
export interface RequestMessage {
  /** The option `name`. */
  readonly proxy: string
  readonly req: IncomingMessage
  readonly res: ServerResponse
}

/** On `sse-proxy:attempt`: a request is about to be sent to an upstream. */
export interface AttemptMessage {
  /** The option `name`. */
  readonly proxy: string
  readonly req: IncomingMessage
  readonly res: ServerResponse
  /** The upstream's URL, without credentials; empty where a router has yet to choose. */
  readonly upstream: string
  /** What it is sent with, names in lower case. A subscriber may add to them; the headers of the target's own come on top. */
  readonly headers: OutgoingHttpHeaders
}

/** On `sse-proxy:open`: a stream's upstream has answered. */
export interface OpenMessage {
  /** The option `name`. */
  readonly proxy: string
  readonly stream: SseStream
}

/** On `sse-proxy:close`: a stream is over, with the only reason it gets. */
export interface CloseMessage {
  /** The option `name`. */
  readonly proxy: string
  readonly stream: SseStream
  readonly reason: CloseReason
}

/** On `sse-proxy:retry`: an attempt has failed, and there will be another one. */
export interface RetryMessage {
  /** The option `name`. */
  readonly proxy: string
  readonly req: IncomingMessage
  /** The URL of the upstream that failed, without credentials. */
  readonly upstream: string
  readonly error: SseProxyError
  /** Which attempt comes next: 1 is the first after the failed one. */
  readonly attempt: number
  /** How long from now. */
  readonly delayMs: number
}

/** On `sse-proxy:resume`: a stream goes on with another upstream connection. */
export interface ResumeMessage {
  /** The option `name`. */
  readonly proxy: string
  readonly stream: SseStream
  /** The URL of the upstream it goes on with, without credentials. */
  readonly upstream: string
  /** What the upstream was asked to go on from. */
  readonly lastEventId: string
  /** How many tries it took. */
  readonly attempt: number
}

/** On `sse-proxy:error`: a request had no answer, or an open stream was broken off. A client that left is no error. */
export interface ErrorMessage {
  /** The option `name`. */
  readonly proxy: string
  readonly error: SseProxyError
  /** Absent where none was open. */
  readonly stream?: SseStream
  /** Absent where no single request had to do with it. */
  readonly req?: IncomingMessage
}

/** On `sse-proxy:eject`: an upstream is not used for a while. */
export interface EjectMessage {
  /** The option `name`. */
  readonly proxy: string
  /** Its URL, without credentials. */
  readonly upstream: string
  /** When it may be asked again, as `Date.now()`; Infinity where it has to pass its probes first. */
  readonly untilMs: number
  /** Failures in a row that led to it. */
  readonly failures: number
}

/** On `sse-proxy:store`: the store of shared streams can be used again, or cannot. */
export interface StoreMessage {
  /** The option `name`. */
  readonly proxy: string
  readonly isUp: boolean
  /** Why not, where that is known. */
  readonly error?: unknown
}

/** A channel of the package's own, and what its messages carry. */
export class Topic<Message> {
  // Held on to, because a channel without references may be collected, and its subscribers with it.
  readonly #channel: Channel

  constructor(name: string) {
    this.#channel = channel(name)
  }

  /** Calls back with each message, until the returned function is called. What the listener throws ends there. */
  subscribe(listener: (message: Message) => void): () => void {
    const heard = (message: unknown): void => {
      try {
        Reflect.apply(listener, undefined, [message])
      } catch (error) {
        debug('%s: a listener failed: %O', String(this.#channel.name), error)
      }
    }
    this.#channel.subscribe(heard)
    return () => void this.#channel.unsubscribe(heard)
  }

  /** `message` is called only where the channel has subscribers. */
  publish(message: () => Message): void {
    if (this.#channel.hasSubscribers) this.#channel.publish(message())
  }
}

export const requests: Topic<RequestMessage> = new Topic('sse-proxy:request')
export const attempts: Topic<AttemptMessage> = new Topic('sse-proxy:attempt')
export const opens: Topic<OpenMessage> = new Topic('sse-proxy:open')
export const closes: Topic<CloseMessage> = new Topic('sse-proxy:close')
export const retries: Topic<RetryMessage> = new Topic('sse-proxy:retry')
export const resumes: Topic<ResumeMessage> = new Topic('sse-proxy:resume')
export const failures: Topic<ErrorMessage> = new Topic('sse-proxy:error')
export const stores: Topic<StoreMessage> = new Topic('sse-proxy:store')
export const ejections: Topic<EjectMessage> = new Topic('sse-proxy:eject')
