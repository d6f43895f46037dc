// What becomes of the upstream's answer to a request that clients share: a stream that all who wait follow, a short answer
// that all get, or the leader's own, where it depends on something in which the others may differ.

import { StreamError, UpstreamError } from '../errors.ts'
import { bodyOf, collect, lengthOf } from '../stream/collect.ts'
import { eventStreamOf } from '../stream/event-stream.ts'
import {
  headerOf,
  isEventStream,
  type OpenUpstream,
  type UpstreamBody,
  type UpstreamResponse,
} from '../upstream-response.ts'
import { EndedStream, type EndedStreams } from './ended-streams.ts'
import { MemoryEventLog } from './event-log.ts'
import { follow } from './follow.ts'
import type { StreamEnding } from './followed-stream.ts'
import { shareableAnswerHeaders } from './follower-headers.ts'
import { type OpenedStream, type Opening, refusing, type SharingRequest } from './opening.ts'
import type { Openings } from './openings.ts'
import type { ReplayBudget } from './replay-budget.ts'
import type { ShareKeys } from './share-key.ts'
import { mayHaveBody, roleOf } from './share-methods.ts'
import { SharedStream } from './shared-stream.ts'
import type { SharedStreamsContext } from './shared-streams-context.ts'

/** The parts of `SharedStreams` that an answer concerns. */
export interface SharedAnswersContext extends SharedStreamsContext {
  readonly keys: ShareKeys
  readonly openings: Openings
  readonly ended: EndedStreams
  readonly budget: ReplayBudget
  /** Serves a request from a stream that is shared, or opens one; false where it is not to be shared. */
  serve(request: SharingRequest): boolean
}

export class SharedAnswers {
  readonly #context: SharedAnswersContext
  readonly #keys: ShareKeys
  readonly #openings: Openings

  constructor(context: SharedAnswersContext) {
    this.#context = context
    this.#keys = context.keys
    this.#openings = context.openings
  }

  /** The upstream has answered. */
  take(opening: Opening, response: UpstreamResponse): void {
    const body = eventStreamOf(response, this.#context.options.timeouts.idleMs)
    if (opening.controller.aborted) response.body.destroy()
    else if (body) this.#share(opening, response, body)
    else void this.#answer(opening, response)
  }

  /** There is no answer. */
  refuse(opening: Opening, error: unknown): void {
    for (const request of this.#settle(opening)) request.refuse(error)
  }

  /** Tells whether what is polled is for all who follow, unless the stream is its leader's alone. */
  isForFollowers(opening: Opening): (answer: UpstreamResponse) => boolean {
    return (answer) => !opening.stream || this.#isForAll(opening, answer)
  }

  /** Lets a client follow the stream that an opening has become. */
  follow(request: SharingRequest, { leader }: Opening, stream: OpenedStream): void {
    const { observer, share } = this.#context
    if (request.isOver) return
    if (request !== leader) observer.joined()
    refusing(request, () => follow(request, stream, request === leader, share))
  }

  /** The answer is a stream: all who wait follow it, unless it is the leader's alone. */
  #share(opening: Opening, response: UpstreamResponse, body: UpstreamBody): void {
    if (this.#setApart(opening, response)) {
      this.#rememberPrivate(opening)
      return this.#answerLeader(opening, response)
    }
    opening.lingering?.stop()
    const shared = this.#createStream(opening, response, body)
    const { upstream, statusMessage, headers, cookie } = response
    opening.stream = { shared, head: { upstream, statusMessage, headers, ...(cookie !== undefined && { cookie }) } }
    // Only a resume asks again.
    if (!this.#context.options.resume || mayHaveBody(opening.leader.req.method)) opening.leader.forget()
    // They are all in before the first event, so that none of them misses it.
    for (const request of this.#openings.takeWaiting(opening)) this.follow(request, opening, opening.stream)
    shared.start()
  }

  /** The leader may leave while others follow, so its place of the limits and its request are kept by what they are. */
  #createStream(opening: Opening, response: UpstreamResponse, body: UpstreamBody): SharedStream {
    const { options, share, observer, admission, moves, budget, nextId } = this.#context
    const { leader, client, controller } = opening
    const shared = new SharedStream(
      {
        id: nextId(),
        req: leader.req,
        res: leader.res,
        controller,
        options,
        share,
        open: () => this.#reopener(opening, leader.open()),
        observer,
        moves,
        meter: observer.meter(performance.now()),
        log: new MemoryEventLog(share.replay, share.replay.ids === 'assign' ? '' : leader.lastEventId, budget),
        budget,
        linger: (close) => admission.linger(client, close),
        // Where another stream has taken its key, no client comes back to it.
        lingers: () => !this.#openings.isClosed && this.#openings.of(opening.key) === opening,
        onOver: (ending) => this.#isOver(opening, shared, ending),
      },
      response,
      body,
    )
    return shared
  }

  /** Kept where it ended of itself, and requests with its key would have followed it. */
  #isOver(opening: Opening, shared: SharedStream, ending: StreamEnding | undefined): void {
    const { key, asked, stream } = opening
    const { ended, share } = this.#context
    const isAtKey = key === asked && this.#openings.of(key) === opening
    this.#openings.delete(opening)
    if (stream && ending !== undefined && isAtKey && share.keepEndedMs > 0 && !this.#openings.isClosed) {
      ended.keep(key, { shared: new EndedStream(shared, ending), head: stream.head })
    } else {
      shared.log.close()
    }
  }

  /** What a resume brings must be for all who follow, as the stream was until then. */
  #reopener(opening: Opening, open: OpenUpstream): OpenUpstream {
    return async (request) => {
      const response = await open({ ...request, isForAll: this.isForFollowers(opening) })
      if (!isEventStream(response) || this.#isForAll(opening, response)) return response
      response.body.destroy()
      const cause = new Error('the upstream answered a resume for one of its clients alone')
      throw new StreamError('ERR_SSE_PROXY_UPSTREAM_LOST', cause)
    }
  }

  /** Whether an answer depends on nothing in which the followers may differ. */
  #isForAll(opening: Opening, response: UpstreamResponse): boolean {
    const agreed = opening.varies.split(',')
    const isAlone = this.#keys.isPersonal(opening.base, response)
    if (isAlone) this.#rememberPrivate(opening)
    return !isAlone && this.#keys.variedBy(response).every((name) => agreed.includes(name))
  }

  /** Requests like the leader's wait for no other one for a while. */
  #rememberPrivate({ base, leader }: Opening): void {
    this.#keys.rememberPrivate(this.#keys.full(base, leader.req), performance.now())
  }

  /**
   * Serves those apart who wait but would have got another answer, now that it says what it depends on.
   * @returns whether the answer is its leader's alone
   */
  #setApart(opening: Opening, response: UpstreamResponse): boolean {
    const { base, leader } = opening
    const isAlone = this.#keys.isPersonal(base, response)
    if (!isAlone && this.#keys.variedBy(response).length === 0) return false
    this.#openings.rekey(opening, this.#keys.full(base, leader.req))
    opening.varies = this.#keys.variesOf(base)
    if (isAlone) this.#openings.leaveKey(opening)
    const strangers = [...opening.waiting].filter(
      (request) => request !== leader && (isAlone || this.#keys.full(base, request.req) !== opening.key),
    )
    for (const request of strangers) this.#openings.stopWaiting(request, opening)
    // A crowd whose answers are private does not queue for them one by one.
    for (const request of strangers) {
      if (!request.isOver) refusing(request, () => (!isAlone && this.#context.serve(request)) || request.alone())
    }
    return isAlone
  }

  /** An answer that is no stream: for all who wait where it is short, for the leader alone otherwise. */
  async #answer(opening: Opening, response: UpstreamResponse): Promise<void> {
    const { leader, waiting, controller } = opening
    this.#dismissJoiners(opening)
    this.#setApart(opening, response)
    const length = lengthOf(response)
    // A login's address or a challenge may hold what is meant for one client.
    const isForOne = ['location', 'www-authenticate'].some((name) => headerOf(response, name) !== undefined)
    const isWaitedFor = waiting.size > 1 || (waiting.size === 1 && !waiting.has(leader))
    if (isForOne || !isWaitedFor || length === undefined || length > this.#context.options.limits.bodyBytes) {
      return this.#answerLeader(opening, response)
    }
    // Until all of it is here, it is given up when all who wait for it have left.
    controller.onAbort(() => response.body.destroy())
    const collected = await collect(response.body, length).catch(
      (error) => new UpstreamError('ERR_SSE_PROXY_BAD_ANSWER', response.upstream, error),
    )
    const requests = this.#settle(opening)
    for (const request of requests) {
      if (collected instanceof UpstreamError) request.refuse(collected)
      else refusing(request, () => request.answer(answerFor(request, request === leader, response, collected)))
    }
  }

  /** An answer for its leader alone: the others ask for themselves. */
  #answerLeader(opening: Opening, response: UpstreamResponse): void {
    const requests = this.#settle(opening)
    if (!requests.includes(opening.leader)) response.body.destroy()
    for (const request of requests) {
      refusing(request, () => (request === opening.leader ? request.answer(response) : request.alone()))
    }
  }

  /** There will be no stream: those who came for one alone have nothing to wait for. */
  #dismissJoiners(opening: Opening): void {
    for (const request of opening.waiting) {
      if (roleOf(request.req.method, this.#context.share) === 'open') continue
      this.#openings.stopWaiting(request, opening)
      if (!request.isOver) request.nothing()
    }
  }

  /** There is no stream, so that the opening is over; returns those who get what there is instead. */
  #settle(opening: Opening): SharingRequest[] {
    this.#dismissJoiners(opening)
    const requests = this.#openings.takeWaiting(opening)
    this.#openings.delete(opening)
    return requests
  }
}

/** What one of those who waited gets of an answer that is no stream. */
function answerFor(
  request: SharingRequest,
  isLeader: boolean,
  response: UpstreamResponse,
  bytes: Buffer,
): UpstreamResponse {
  const body = bodyOf(bytes)
  if (isLeader) return { ...response, body }
  const { cookie: _, ...shareable } = response
  return { ...shareable, headers: shareableAnswerHeaders(response.headers, request.req), body }
}
