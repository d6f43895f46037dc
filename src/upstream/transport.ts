// The seam between an attempt and what carries its request to the upstream: HTTP/1.1 through http-proxy-middleware today.
// A transport sends one request and tells what becomes of it. Which upstream is asked, how long an attempt waits and
// whether another one follows is not decided here.

import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { UpstreamError } from '../errors.ts'
import type { HpmTarget } from '../hpm.ts'
import type { UpstreamResponse } from '../upstream-response.ts'
import type { RequestBody } from './request-body.ts'
import type { OnOver } from './response-body.ts'

/** A client's request, for all its attempts. */
export interface ProxiedRequest {
  /** Names it in the debug output. */
  readonly id: string
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly body: RequestBody
  /** Whether the client gets a format that is made of events, whatever it accepts. */
  readonly wantsEvents?: boolean | undefined
}

/** An upstream that has been chosen. */
export interface Upstream {
  /** As the app wrote it. */
  readonly target: HpmTarget
  /** The same, parsed. */
  readonly parsed: HpmTarget
  /** What it is called: no credentials. */
  readonly url: string
  /** Of its own, over those of clients: another provider's key, say. Lower case. */
  readonly headers: Readonly<Record<string, string>> | undefined
}

export interface Transport {
  /** Sends a request. The events may begin before this returns. */
  send(order: TransportOrder, events: TransportEvents): TransportRequest
  /** An upstream has gone, or the last request to it since: connections to it that are idle end, those in use behind their answer. */
  retire(upstream: Upstream): void
  /** Ends all connections, those of open streams included. */
  close(): void
}

/** What is sent where. */
export interface TransportOrder {
  readonly request: ProxiedRequest
  /** As the upstream is to get them; http-proxy-middleware's options and the app's handlers come on top. */
  readonly headers: OutgoingHttpHeaders
  /** Undefined where a router chooses, which the transport asks. */
  readonly upstream: Upstream | undefined
  /** Whether it must have a connection that no other request has used. */
  readonly isFresh: boolean
  /** Told how the answer has ended, where there is one. */
  readonly onOver: OnOver | undefined
}

/** What becomes of a request. Its last event is `onAnswer` or `onFailed`. */
export interface TransportEvents {
  /** The connection is there, TLS included, and the upstream can answer; again for each redirect that is followed. */
  onConnected(): void
  /** The client has sent enough of the body to count as progress, or its end. */
  onProgress(): void
  /** The head of the answer is there, and its body can be read. */
  onAnswer(response: UpstreamResponse): void
  /**
   * There will be no answer.
   * @param diedOnReuse on a connection used before: the upstream had closed it by then, or had written something behind an
   * earlier answer that cannot be one to this request
   */
  onFailed(error: UpstreamError, diedOnReuse: boolean): void
}

/** A request on its way. */
export interface TransportRequest {
  /** What its upstream is called; undefined until a router has chosen. */
  readonly upstream: string | undefined
  /** Whether the upstream may have got any of it; false only where it surely has not. */
  readonly mayHaveArrived: boolean
  /**
   * What keeps the answer from coming: an agent of the app's without a free socket, no connection yet, a client that does not go
   * on with the body, or the upstream.
   */
  readonly waitsFor: 'agent' | 'connection' | 'client' | 'upstream'
  /** Gives it up, and nothing more is told. Does nothing once it is answered or has failed. */
  abort(): void
}
