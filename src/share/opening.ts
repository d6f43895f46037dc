// One request to the upstream that may become a shared stream: who asked for it, who waits for its answer, and, once it
// is answered, the stream that those who come later may follow.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { Abort } from '../abort.ts'
import type { Ticket } from '../admission.ts'
import type { Session, SessionHead } from '../stream/session.ts'
import type { OpenUpstream, UpstreamResponse } from '../upstream-response.ts'
import type { FollowedStream } from './followed-stream.ts'
import type { Lingering } from './lingering.ts'
import type { SharedStream } from './shared-stream.ts'

/** A request that may be served from a shared stream. */
export interface SharingRequest {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  /** Whether nothing of its body is still to come, so that the upstream gets all of it although the client leaves. */
  readonly isSent: boolean
  /** Whether its client gets a format that is made of events, whatever it accepts. */
  readonly wantsEvents: boolean
  /** Whether its client has left, or has its whole answer. */
  readonly isOver: boolean
  /** Whose place of the limits it has; only known where clients are limited. */
  readonly client: string | undefined
  /** The id that the client comes with; '' for none. */
  readonly lastEventId: string
  /**
   * Takes a place of the limits, once.
   * @param heir the place of a stream without a follower, which this request will follow
   * @throws AdmissionError
   */
  admit(heir: Ticket | undefined): void
  /** See `SessionContext`. */
  inContext<Result>(work: () => Result): Result
  /** The function that gets it an answer of the upstream's. */
  open(): OpenUpstream
  /** Nothing will be asked for again: what was kept of its body is let go. */
  forget(): void
  /** What writes a stream to its client. */
  session(): Session
  /** Serves it from an upstream of its own after all. */
  alone(): void
  /** Tells its client that there is nothing to follow; a stream that has been promised ends. */
  nothing(): void
  /** Gives it an answer. */
  answer(response: UpstreamResponse): void
  /** Tells its client that there is no answer. */
  refuse(error: unknown): void
}

/** A stream that clients may follow, and the head under which its leader got it. */
export interface Followable {
  readonly shared: FollowedStream
  readonly head: SessionHead
}

/** One that runs. */
export interface OpenedStream extends Followable {
  readonly shared: SharedStream
}

/** What tells an opening from others. */
export interface OpeningKeys {
  /** The key of its requests without varied headers, and with those that are known to vary answers. */
  readonly base: string
  readonly key: string
  /** See `Opening`; absent where it is the same. */
  readonly asked?: string
}

export class Opening {
  readonly base: string
  key: string
  /** The key that its requests come with: that of the first, where this one was opened for those who stand elsewhere. */
  asked: string
  /** The names of the headers that all who have this key agree in. */
  varies: string
  /** The one whose request goes to the upstream; it may leave before the others. */
  readonly leader: SharingRequest
  /** Whose place of the limits the leader took, known also when it has left. */
  readonly client: string | undefined
  /** Ends the upstream's request. */
  readonly controller: Abort = new Abort()
  /** Those who came before there was an answer, the leader among them. */
  readonly waiting: Set<SharingRequest> = new Set()
  /** Set when no request waits any more, and it is not given up. */
  lingering: Lingering | undefined
  /** How many streams of this key have been opened for clients that stand elsewhere. */
  variants = 0
  /** Set when the answer turns out to be a stream that others may follow. */
  stream: OpenedStream | undefined

  constructor(leader: SharingRequest, { base, key, asked = key }: OpeningKeys, varies: string) {
    this.leader = leader
    this.client = leader.client
    this.base = base
    this.key = key
    this.asked = asked
    this.varies = varies
  }

  /** The place of the limits that it takes while no client waits for it or follows it. */
  get place(): Ticket | undefined {
    return this.stream?.shared.place ?? this.lingering?.place
  }
}

/** Serves one of many, in its own async context: what is wrong with it is nothing to the others. */
export function refusing(request: SharingRequest, serve: () => void): void {
  try {
    request.inContext(serve)
  } catch (error) {
    request.refuse(error)
  }
}
