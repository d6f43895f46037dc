// What happens to streams, told on node:diagnostics_channel to whoever listens: tracers, loggers, tests. A message
// is made only where somebody listens. Subscribers run at once, in the middle of the proxy's work; what one of them
// throws, Node itself makes an uncaught exception of the process, after that work.

import { channel } from 'node:diagnostics_channel'
import type { IncomingMessage } from 'node:http'
import type { CloseReason, SseProxyError } from '../errors.ts'
import type { SseStream } from '../events/event.ts'

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

/** On `sse-proxy:eject`: an upstream is left alone for a while. */
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

// Kept here because a channel that nobody refers to may be collected, and its subscribers with it.
const open = channel('sse-proxy:open')
const close = channel('sse-proxy:close')
const retry = channel('sse-proxy:retry')
const resume = channel('sse-proxy:resume')
const failure = channel('sse-proxy:error')
const eject = channel('sse-proxy:eject')

export function publishOpen(proxy: string, stream: SseStream): void {
  if (!open.hasSubscribers) return
  open.publish({ proxy, stream } satisfies OpenMessage)
}

export function publishClose(proxy: string, stream: SseStream, reason: CloseReason): void {
  if (!close.hasSubscribers) return
  close.publish({ proxy, stream, reason } satisfies CloseMessage)
}

export function publishRetry(
  proxy: string,
  req: IncomingMessage,
  upstream: string,
  error: SseProxyError,
  attempt: number,
  delayMs: number,
): void {
  if (!retry.hasSubscribers) return
  retry.publish({ proxy, req, upstream, error, attempt, delayMs } satisfies RetryMessage)
}

export function publishResume(
  proxy: string,
  stream: SseStream,
  upstream: string,
  lastEventId: string,
  attempt: number,
): void {
  if (!resume.hasSubscribers) return
  resume.publish({ proxy, stream, upstream, lastEventId, attempt } satisfies ResumeMessage)
}

export function publishError(proxy: string, error: SseProxyError, stream?: SseStream, req?: IncomingMessage): void {
  if (!failure.hasSubscribers) return
  failure.publish({ proxy, error, ...(stream && { stream }), ...(req && { req }) } satisfies ErrorMessage)
}

export function publishEject(proxy: string, upstream: string, untilMs: number, failures: number): void {
  if (!eject.hasSubscribers) return
  eject.publish({ proxy, upstream, untilMs, failures } satisfies EjectMessage)
}
