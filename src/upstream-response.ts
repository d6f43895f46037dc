// The seam between upstream/ and stream/: what an upstream's answer is, and the one function that gets one. Retry, resume
// and share wrap that function or the body, and are absent where they are off.

import type { IncomingMessage } from 'node:http'
import type { AbortState } from './abort.ts'
import type { UpstreamError } from './errors.ts'

/** Takes what an upstream sends. After `onEnd` or `onBroken` nothing more comes. */
export interface BodySink {
  /** @param isLent whether it lies in memory that is used again; only where `mayBorrow` */
  onData(chunk: Buffer, isLent?: boolean): void
  /** Whether it can do with the HTTP chunks that carry the data. */
  readonly takesChunks?: boolean
  /** HTTP chunks as they were read, beginning where one begins; gives back what is to come as data instead. */
  onChunks?(read: Buffer): readonly Buffer[]
  /** Gives back what of them it holds. */
  releaseChunks?(): readonly Buffer[]
  /** Whether it would pass on at once what it gets next, which may lie in memory that is used again then. */
  readonly mayBorrow?: boolean
  /** Whether anything refers to memory that it was given so; absent where that is not known. */
  keeps?(memory: Buffer): boolean
  /** The body is complete. */
  onEnd(): void
  /** The body stopped before its end. */
  onBroken(cause: Error): void
  /** Whether another connection may take over now: the client stands at a boundary, and nothing that came has yet to pass. */
  readonly mayMove?: boolean
  /** After `reconnect`, or instead of it where `mayMove`: another connection's bytes follow. */
  onReconnected?(response: UpstreamResponse, attempt: number): void
}

/** An answer's body, pushed into one sink. Nothing is read before `start`. */
export interface UpstreamBody {
  /** Whether any of it is here already, so that it can leave together with the head. */
  readonly hasBegun?: boolean | undefined
  /** Whether a callback of the app's works on what has come: a silence is not the upstream's then. */
  readonly isWithApp?: boolean | undefined
  start(sink: BodySink): void
  pause(): void
  unpause(): void
  /** Gives the connection up, because it is not wanted or because it is silent; the sink hears nothing more. */
  destroy(why?: 'given-up' | 'silent'): void
  /**
   * Asked when the body is over, all that came has passed, and the client stands at a boundary. True where another
   * connection is tried: its bytes follow, `onReconnected` first, or, where there is none to be had, `onEnd` or
   * `onBroken` once more. Absent on bodies that cannot.
   */
  reconnect?(outcome: 'complete' | Error): boolean
  /**
   * Called by the reader of the body at its end with whether it was whole, before `reconnect`. With the option `isEnd` that counts for
   * the upstream's health in place of how the connection ended.
   */
  judge?(isWhole: boolean): void
  /** Told, again and again maybe, when the event has come that completes the stream. A body without an end of its own ends then. */
  enough?(): void
}

/** A header as it goes to the client: the name as the upstream wrote it where that was asked for. */
export type Header = readonly [name: string, value: string | string[]]

/** The head of an upstream's answer with hop-by-hop headers removed, and its body. */
export interface UpstreamResponse {
  readonly status: number
  readonly statusMessage: string
  readonly headers: readonly Header[]
  /** The upstream's URL without credentials. */
  readonly upstream: string
  readonly body: UpstreamBody
  /** Whether the body says where it ends. One that ends with its connection may have been cut without a sign. */
  readonly delimited: boolean
  /** The wait for an event that is on, where the answer was held: which timeout it is, and what is left of it. */
  readonly eventWait?: { readonly timeout: 'firstEventMs' | 'eventMs'; readonly leftMs: number } | undefined
  /** A Set-Cookie of the package's own for the client. */
  readonly cookie?: string
  /** Whether the body is the state of something that is polled: a client that comes later begins with its latest value. */
  readonly isPolled?: boolean
}

export interface OpenRequest {
  /** Sent as Last-Event-ID in place of the client's own. */
  readonly lastEventId?: string
  /** The upstream that has just failed this stream: another one is better, where there is one. */
  readonly avoid?: string
  /** The upstream that has answered this feed last: where `balance` is no order of the app's, it is asked again while it is well. */
  readonly stay?: string
  /** Sent in place of the client's own of these names, which are lower case; undefined for none. */
  readonly headers?: Readonly<Record<string, string | undefined>>
  /**
   * Whether an answer may go where the first one went, to many clients maybe. Asked about each further answer where the first is
   * polled.
   */
  readonly isForAll?: (answer: UpstreamResponse) => boolean
  /** Gives up, in whatever state the request is. */
  readonly signal: AbortState
}

/** Gets an answer from an upstream or rejects with an `UpstreamError`. */
export type OpenUpstream = (request: OpenRequest) => Promise<UpstreamResponse>

/** What the beginning of an answer has shown. */
export type Inspected =
  | { readonly response: UpstreamResponse; readonly error?: undefined }
  /** The attempt has failed. Where there is no other one, the client gets the answer all the same, or the error where there is none. */
  | { readonly response: UpstreamResponse | undefined; readonly error: UpstreamError }

/** Looks at the beginning of an answer before anything of it leaves; never rejects. */
export type Inspect = (response: UpstreamResponse, req: IncomingMessage, signal: AbortState) => Promise<Inspected>

/** What an answer is an answer to. */
export interface AskedFor {
  readonly req: IncomingMessage
  /** See `OpenRequest`. */
  readonly isForAll?: OpenRequest['isForAll'] | undefined
  /** Makes what asks for further answers, each as it comes; absent where that could do something twice. */
  readonly again?: (() => OpenUpstream) | undefined
}

/** The option `from`: an answer in another format as an event stream; any other answer as it is. */
export type Translate = (response: UpstreamResponse, asked: AskedFor) => UpstreamResponse

/** A 200 of media type text/event-stream: RFC 9110 compares types without case or parameters. */
export function isEventStream(response: UpstreamResponse): boolean {
  return response.status === 200 && /^\s*text\/event-stream\s*(;|$)/i.test(headerOf(response, 'content-type') ?? '')
}

/** A header's value, the first where there are several. */
export function headerOf(response: UpstreamResponse, lowerCaseName: string): string | undefined {
  const value = response.headers.find((header) => header[0].toLowerCase() === lowerCaseName)?.[1]
  return Array.isArray(value) ? value[0] : value
}
