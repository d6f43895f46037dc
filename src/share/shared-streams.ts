// Which clients share an upstream stream: who opens one, who waits for it, who comes later, and who is set apart again
// when the answer says that it is not for all. How a client gets in is told in follow.ts.

import createDebug from 'debug'
import type { Admission } from '../admission.ts'
import { StreamError, UpstreamError } from '../errors.ts'
import type { ResolvedOptions } from '../options/resolve-options.ts'
import type { ResolvedShare } from '../options/resolve-share.ts'
import { bodyOf, collect, lengthOf } from '../stream/collect.ts'
import { eventStreamOf } from '../stream/event-stream.ts'
import {
  headerOf,
  isEventStream,
  type OpenUpstream,
  type UpstreamBody,
  type UpstreamResponse,
} from '../upstream-response.ts'
import { MemoryEventLog } from './event-log.ts'
import { follow } from './follow.ts'
import { shareableAnswerHeaders } from './follower-headers.ts'
import { type OpenedStream, Opening, type SharingRequest } from './opening.ts'
import { ReplayBudget } from './replay-budget.ts'
import { asksForStream, compactKey, ShareKeys } from './share-key.ts'
import { SharedStream, type SharedStreamObserver } from './shared-stream.ts'

const debug = createDebug('sse-proxy:stream')

// A client that stands elsewhere than a stream that is being opened gets one of its own, a variant of that key. So many
// at most; a crowd gets what there is.
const MAX_VARIANTS = 16

/** What all shared streams of a proxy have in common. */
export interface SharedStreamsContext {
  readonly options: ResolvedOptions
  readonly share: ResolvedShare
  readonly observer: SharedStreamObserver
  readonly admission: Admission
  nextId(): string
}

/** All shared streams of a proxy, and the requests that wait for one. */
export class SharedStreams {
  readonly #context: SharedStreamsContext
  readonly #keys: ShareKeys
  // Bounds what all of them keep together.
  readonly #budget: ReplayBudget
  // By key: the answer that a request with that key waits for, or the stream that it follows.
  readonly #openings = new Map<string, Opening>()
  // Those that are not over, also where a request with their key would not follow them any more.
  readonly #live = new Set<SharedStream>()
  // What each request waits for that has no answer yet.
  readonly #waiting = new Map<SharingRequest, Opening>()

  constructor(context: SharedStreamsContext) {
    const { options, share, admission } = context
    this.#context = context
    const warning = share.keyTakesRequest ? (text: string) => warn(options, text) : undefined
    this.#keys = new ShareKeys(share.key, warning, new Set(options.stripHeaders))
    this.#budget = new ReplayBudget(share.maxBytes, () => admission.closeOldestLingering())
  }

  /** How many there are, and how many clients follow them. */
  get stats(): { streams: number; clients: number } {
    const live = [...this.#live]
    return { streams: live.length, clients: live.reduce((sum, { clients }) => sum + clients, 0) }
  }

  /** Ends those that no client follows. */
  close(): void {
    for (const shared of this.#live) {
      if (shared.clients === 0) shared.close()
    }
  }

  /** Serves a client from a shared stream; false where it is not to be shared. */
  serve(request: SharingRequest): boolean {
    const { req } = request
    if (req.method !== 'GET') return false
    const base = this.#keys.baseOf(req)
    if (base === undefined || !asksForStream(req)) return false
    const key = this.#keys.full(base, req)
    if (this.#keys.isPrivate(key, performance.now())) return false
    request.admit(this.#openings.get(key)?.stream?.shared.place)
    this.#join(request, key, base)
    return true
  }

  /** A client has left. Where it was the last that waited for an answer, the upstream's request is given up. */
  leave(request: SharingRequest): void {
    const opening = this.#waiting.get(request)
    if (!opening) return
    this.#stopWaiting(request, opening)
    if (opening.waiting.size > 0 || opening.stream) return
    this.#remove(opening)
    opening.controller.abort('client-left')
  }

  /** Follows the stream of this key, waits for it, or opens it. */
  #join(request: SharingRequest, key: string, base: string): void {
    const opening = this.#openings.get(key)
    if (!opening) return void this.#open(request, key, base)
    if (opening.stream) return this.#follow(request, opening, opening.stream)
    // What the upstream will begin with depends on where the leader stands.
    const { lastEventId } = request
    const standsElsewhere = !this.#assignsIds && lastEventId !== opening.leader.lastEventId
    if (!standsElsewhere || opening.variants >= MAX_VARIANTS) return this.#wait(request, opening)
    const variant = compactKey(JSON.stringify([key, lastEventId]))
    if (!this.#openings.has(variant)) opening.variants++
    this.#join(request, variant, base)
  }

  /** Asks the upstream in the leader's name, for all who come until it has answered. */
  async #open(leader: SharingRequest, key: string, base: string): Promise<void> {
    const opening = new Opening(leader, base, key, this.#keys.variesOf(base))
    this.#openings.set(key, opening)
    this.#wait(leader, opening)
    const signal = opening.controller
    try {
      const open = leader.open()
      // Ids of the proxy's own mean nothing to the upstream.
      const response = await open(this.#assignsIds ? { lastEventId: '', signal } : { signal })
      const body = eventStreamOf(response, this.#context.options.timeouts.idleMs)
      if (body) this.#share(opening, open, response, body)
      else void this.#answer(opening, response)
    } catch (error) {
      this.#remove(opening)
      for (const request of this.#takeWaiting(opening)) request.refuse(error)
    }
  }

  /** The answer is a stream: all who wait follow it, unless it is the leader's alone. */
  #share(opening: Opening, open: OpenUpstream, response: UpstreamResponse, body: UpstreamBody): void {
    if (this.#setApart(opening, response)) {
      this.#rememberPrivate(opening)
      return this.#answerLeader(opening, response)
    }
    const shared = this.#createStream(opening, open, response, body)
    const { upstream, statusMessage, headers, cookie } = response
    this.#live.add(shared)
    opening.stream = { shared, head: { upstream, statusMessage, headers, ...(cookie !== undefined && { cookie }) } }
    // They are all in before the first event, so that none of them misses it.
    for (const request of this.#takeWaiting(opening)) this.#follow(request, opening, opening.stream)
    shared.start()
  }

  /** The leader may leave while others follow, so its place of the limits and its request are kept by what they are. */
  #createStream(opening: Opening, open: OpenUpstream, response: UpstreamResponse, body: UpstreamBody): SharedStream {
    const { options, share, observer, admission, nextId } = this.#context
    const { leader, client, controller } = opening
    const shared = new SharedStream(
      {
        id: nextId(),
        req: leader.req,
        res: leader.res,
        controller,
        options,
        share,
        open: () => this.#reopener(opening, open),
        observer,
        meter: observer.meter(performance.now()),
        log: new MemoryEventLog(share.replay, this.#assignsIds ? '' : leader.lastEventId, this.#budget),
        budget: this.#budget,
        linger: (close) => admission.linger(client, close),
        // Where another stream has taken its key, no client comes back to it.
        lingers: () => this.#openings.get(opening.key) === opening,
        onOver: () => {
          shared.log.close()
          this.#live.delete(shared)
          this.#remove(opening)
        },
      },
      response,
      body,
    )
    return shared
  }

  #follow(request: SharingRequest, { leader }: Opening, stream: OpenedStream): void {
    if (request.isOver) return
    refusing(request, () => follow(request, stream, request === leader, this.#context.share))
  }

  /** What a resume brings must be for all who follow, as the stream was until then. */
  #reopener(opening: Opening, open: OpenUpstream): OpenUpstream {
    return async (request) => {
      const response = await open(request)
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
    this.#remove(opening)
    opening.key = this.#keys.full(base, leader.req)
    opening.varies = this.#keys.variesOf(base)
    if (!isAlone && !this.#openings.has(opening.key)) this.#openings.set(opening.key, opening)
    const strangers = [...opening.waiting].filter(
      (request) => request !== leader && (isAlone || this.#keys.full(base, request.req) !== opening.key),
    )
    for (const request of strangers) this.#stopWaiting(request, opening)
    // A crowd whose answers are private does not queue for them one by one.
    for (const request of strangers) if (!request.isOver && (isAlone || !this.serve(request))) request.alone()
    return isAlone
  }

  /** An answer that is no stream: for all who wait where it is short, for the leader alone otherwise. */
  async #answer(opening: Opening, response: UpstreamResponse): Promise<void> {
    const { leader, waiting, controller } = opening
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
    this.#remove(opening)
    for (const request of this.#takeWaiting(opening)) {
      if (collected instanceof UpstreamError) request.refuse(collected)
      else refusing(request, () => request.answer(answerFor(request, request === leader, response, collected)))
    }
  }

  /** An answer for its leader alone: the others ask for themselves. */
  #answerLeader(opening: Opening, response: UpstreamResponse): void {
    this.#remove(opening)
    const requests = this.#takeWaiting(opening)
    if (!requests.includes(opening.leader)) response.body.destroy()
    for (const request of requests) {
      if (request === opening.leader) refusing(request, () => request.answer(response))
      else request.alone()
    }
  }

  get #assignsIds(): boolean {
    return this.#context.share.replay.ids === 'assign'
  }

  /** Those whose client is still there; they wait no longer. */
  #takeWaiting(opening: Opening): SharingRequest[] {
    const waiting = [...opening.waiting]
    for (const request of waiting) this.#stopWaiting(request, opening)
    return waiting.filter(({ isOver }) => !isOver)
  }

  #wait(request: SharingRequest, opening: Opening): void {
    opening.waiting.add(request)
    this.#waiting.set(request, opening)
  }

  #stopWaiting(request: SharingRequest, opening: Opening): void {
    opening.waiting.delete(request)
    this.#waiting.delete(request)
  }

  /** From now on requests with its key open another one. */
  #remove(opening: Opening): void {
    if (this.#openings.get(opening.key) === opening) this.#openings.delete(opening.key)
  }
}

/** What is wrong with one of many is nothing to the others. */
function refusing(request: SharingRequest, serve: () => void): void {
  try {
    serve()
  } catch (error) {
    request.refuse(error)
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

/** Tells the app of a likely mistake, in the debug log and through its logger. */
function warn({ hpm, name }: ResolvedOptions, text: string): void {
  debug('%s: %s', name, text)
  hpm.logger?.warn(`[${name}] ${text}`)
}
