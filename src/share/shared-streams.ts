// Which clients share an upstream stream: who opens one, who waits for it, who comes later, and who is set apart again
// when the answer says that it is not for all. How a client gets in is told in follow.ts.

import createDebug from 'debug'
import type { Admission } from '../admission.ts'
import { AdmissionError, type CloseReason, StreamError, UpstreamError } from '../errors.ts'
import type { ResolvedOptions } from '../options/resolve-options.ts'
import type { ResolvedShare } from '../options/resolve-share.ts'
import { bodyOf, collect, lengthOf } from '../stream/collect.ts'
import { eventStreamOf } from '../stream/event-stream.ts'
import type { Moves } from '../stream/moves.ts'
import {
  headerOf,
  isEventStream,
  type OpenUpstream,
  type UpstreamBody,
  type UpstreamResponse,
} from '../upstream-response.ts'
import { EndedStream, EndedStreams, type Kept } from './ended-streams.ts'
import { MemoryEventLog } from './event-log.ts'
import { follow } from './follow.ts'
import type { StreamEnding } from './followed-stream.ts'
import { shareableAnswerHeaders } from './follower-headers.ts'
import { Lingering } from './lingering.ts'
import { type OpenedStream, Opening, type OpeningKeys, type SharingRequest } from './opening.ts'
import { Openings } from './openings.ts'
import { ReplayBudget } from './replay-budget.ts'
import { asksForStream, compactKey, ShareKeys, variantKey } from './share-key.ts'
import { mayHaveBody, outlivesReaders, roleOf, whenBusy } from './share-methods.ts'
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
  readonly moves: Moves | undefined
  nextId(): string
}

/** How many streams there are now. */
export interface SharedNow {
  readonly streams: number
  /** How many clients follow them. */
  readonly clients: number
  /** Those that no client follows. */
  readonly unread: number
  /** Those that are over. */
  readonly kept: number
  /** Absent without a store. */
  readonly store?: StoreNow
}

/** What this node has to do with the store. */
export interface StoreNow {
  readonly isUp: boolean
  readonly owned: number
  readonly followed: number
  readonly takeovers: number
  readonly checksFound: number
}

/** All shared streams of a proxy, and the requests that wait for one. */
export class SharedStreams {
  readonly #context: SharedStreamsContext
  readonly #keys: ShareKeys
  // Bounds what all of them keep together.
  readonly #budget: ReplayBudget
  readonly #openings = new Openings()
  readonly #ended: EndedStreams
  // Set by `close`: nothing is kept from then on.
  #isClosed = false

  constructor(context: SharedStreamsContext) {
    const { options, share, admission } = context
    this.#context = context
    const warning = share.keyTakesRequest ? (text: string) => warn(options, text) : undefined
    this.#keys = new ShareKeys(share.key, warning, new Set(options.stripHeaders))
    this.#budget = new ReplayBudget(share.maxBytes, () => this.#ended.dropOldest() || admission.closeOldestLingering())
    this.#ended = new EndedStreams(share.keepEndedMs, this.#budget)
  }

  get stats(): SharedNow {
    const live = this.#openings.all().flatMap(({ stream }) => stream?.shared ?? [])
    return {
      streams: live.length,
      clients: live.reduce((sum, { clients }) => sum + clients, 0),
      unread: live.filter(({ clients }) => clients === 0).length,
      kept: this.#ended.size,
    }
  }

  /** Whether a stream goes on that is worth waiting for although no client follows it. */
  get goesOn(): boolean {
    return this.#openings.all().some((opening) => this.#outlives(opening))
  }

  /** Ends those that no client follows, and forgets those that are over. */
  close(): void {
    this.#isClosed = true
    this.#ended.close()
    for (const opening of this.#openings.all()) {
      const { waiting, stream } = opening
      if (!stream && waiting.size === 0) this.#giveUp(opening)
      else if (stream?.shared.clients === 0) stream.shared.close()
    }
  }

  /** Ends the streams with this key of the app's, for all who follow them; false where there is none. */
  stop(key: string): boolean {
    return this.#stop(compactKey(key))
  }

  /**
   * Serves a client from a shared stream; false where it is not to be shared.
   * @throws AdmissionError
   */
  serve(request: SharingRequest): boolean {
    const { req } = request
    const role = roleOf(req.method, this.#context.share)
    if (role === 'unshared') return false
    const base = this.#keys.baseOf(req)
    if (role !== 'open') {
      const key = base === undefined ? undefined : this.#keys.full(base, req)
      if (role === 'stop') this.#stopFor(request, key)
      else this.#joinFor(request, key)
      return true
    }
    if (base === undefined || !(mayHaveBody(req.method) || asksForStream(req, request.wantsEvents))) return false
    const key = this.#keys.full(base, req)
    if (this.#keys.isPrivate(key, performance.now())) return false
    this.#enter(request, { base, key })
    return true
  }

  /** A client has left. Where it was the last that waited for an answer, the upstream's request may be given up. */
  leave(request: SharingRequest): void {
    const led = request.isSent ? undefined : this.#openings.ledBy(request)
    // Without its whole body the upstream has only half a request.
    if (led?.stream) led.stream.shared.lose(new Error('the leader left before its request was whole'))
    else if (led) return this.#giveUp(led)
    const opening = this.#openings.awaitedBy(request)
    if (!opening) return
    this.#openings.stopWaiting(request, opening)
    if (opening.waiting.size > 0) return
    if (this.#outlives(opening) && !this.#isClosed) this.#linger(opening)
    else this.#giveUp(opening)
  }

  /** One that may open: it gets the stream that is open, or its own, or none. */
  #enter(request: SharingRequest, keys: OpeningKeys): void {
    const opening = this.#openings.of(keys.key)
    const kept = opening ? undefined : this.#ended.of(keys.key)
    // What broke is opened anew, and a body may want something else.
    if (kept?.shared.ending === 'complete' && !mayHaveBody(request.req.method)) return this.#followEnded(request, kept)
    const busy = opening && whenBusy(request.req.method, this.#context.share)
    if (busy === 'refuse') throw new AdmissionError('ERR_SSE_PROXY_BUSY')
    request.admit(opening?.place)
    if (opening && busy === 'replace') this.#replace(opening, request, keys)
    else this.#join(request, keys)
  }

  #replace(opening: Opening, request: SharingRequest, keys: OpeningKeys): void {
    const waited = this.#askedWith(opening.asked).flatMap((ended) => this.#end(ended))
    void this.#open(request, keys)
    for (const other of waited) {
      if (this.#mayOpen(other) && mayHaveBody(other.req.method)) other.refuse(new AdmissionError('ERR_SSE_PROXY_BUSY'))
      // It may have been opened in vain by now.
      else refusing(other, () => this.serve(other) || other.alone())
    }
  }

  /** One that may not open: without a stream of its key it gets nothing. */
  #joinFor(request: SharingRequest, key: string | undefined): void {
    const opening = key === undefined ? undefined : this.#openings.of(key)
    const kept = key === undefined || opening ? undefined : this.#ended.of(key)
    if (kept) return this.#followEnded(request, kept)
    if (!opening && this.#context.admission.isDraining) throw new AdmissionError('ERR_SSE_PROXY_DRAINING')
    if (!opening) return request.nothing()
    request.admit(opening.place)
    this.#join(request, opening)
  }

  /** A client that has all of it already, and cannot know, is told so. */
  #followEnded(request: SharingRequest, kept: Kept): void {
    const { log } = kept.shared
    const { lastEventId } = request
    if (lastEventId !== '' && log.positionAfter(lastEventId) === log.end) return request.nothing()
    request.admit(undefined)
    this.#context.observer.replayed()
    follow(request, kept, false, this.#context.share)
  }

  #stopFor(request: SharingRequest, key: string | undefined): void {
    if (key === undefined || !this.#stop(key)) throw new AdmissionError('ERR_SSE_PROXY_NO_STREAM')
    request.nothing()
  }

  /** All that requests with this key may have got. */
  #askedWith(key: string): readonly Opening[] {
    return this.#openings.all().filter(({ asked }) => asked === key)
  }

  #stop(key: string): boolean {
    const stopped = this.#askedWith(key)
    for (const request of stopped.flatMap((opening) => this.#end(opening))) request.nothing()
    return stopped.length > 0
  }

  /** Ends it cleanly for all who follow; returns those who wait for it. */
  #end(opening: Opening): SharingRequest[] {
    const waiting = this.#openings.takeWaiting(opening)
    if (opening.stream) opening.stream.shared.end()
    else this.#abandon(opening, 'closed')
    return waiting
  }

  /** Follows the stream of this key, waits for it, or opens it. */
  #join(request: SharingRequest, keys: OpeningKeys): void {
    const { base, key } = keys
    const opening = this.#openings.of(key)
    // The app may have ended it since it was found.
    if (!opening) return this.#mayOpen(request) ? void this.#open(request, keys) : request.nothing()
    if (opening.stream) return this.#follow(request, opening, opening.stream)
    // What the upstream will begin with depends on where the leader stands.
    const { lastEventId } = request
    const standsElsewhere = !this.#assignsIds && lastEventId !== opening.leader.lastEventId
    if (!standsElsewhere || opening.variants >= MAX_VARIANTS || !this.#isAlike(request, opening.leader)) {
      return this.#wait(request, opening)
    }
    const variant = variantKey(key, lastEventId)
    if (!this.#openings.of(variant)) opening.variants++
    this.#join(request, { base, key: variant, asked: opening.asked })
  }

  /** Whether one could have opened in the place of the other. */
  #isAlike(request: SharingRequest, leader: SharingRequest): boolean {
    return this.#mayOpen(request) && !mayHaveBody(request.req.method) && !mayHaveBody(leader.req.method)
  }

  /** Asks the upstream in the leader's name, for all who come until it has answered. */
  async #open(leader: SharingRequest, keys: OpeningKeys): Promise<void> {
    this.#ended.delete(keys.key)
    const opening = new Opening(leader, keys, this.#keys.variesOf(keys.base))
    this.#openings.add(opening)
    this.#wait(leader, opening)
    const signal = opening.controller
    try {
      const open = leader.open()
      const isForAll = this.#isForFollowers(opening)
      // Ids of the proxy's own mean nothing to the upstream.
      const response = await open(this.#assignsIds ? { lastEventId: '', isForAll, signal } : { isForAll, signal })
      const body = eventStreamOf(response, this.#context.options.timeouts.idleMs)
      if (opening.controller.aborted) response.body.destroy()
      else if (body) this.#share(opening, response, body)
      else void this.#answer(opening, response)
    } catch (error) {
      const requests = this.#takeAnswered(opening)
      this.#forget(opening)
      for (const request of requests) request.refuse(error)
    }
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
    for (const request of this.#openings.takeWaiting(opening)) this.#follow(request, opening, opening.stream)
    shared.start()
  }

  /** The leader may leave while others follow, so its place of the limits and its request are kept by what they are. */
  #createStream(opening: Opening, response: UpstreamResponse, body: UpstreamBody): SharedStream {
    const { options, share, observer, admission, moves, nextId } = this.#context
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
        log: new MemoryEventLog(share.replay, this.#assignsIds ? '' : leader.lastEventId, this.#budget),
        budget: this.#budget,
        linger: (close) => admission.linger(client, close),
        // Where another stream has taken its key, no client comes back to it.
        lingers: () => !this.#isClosed && this.#openings.of(opening.key) === opening,
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
    const isAtKey = key === asked && this.#openings.of(key) === opening
    this.#forget(opening)
    if (stream && ending !== undefined && isAtKey && this.#context.share.keepEndedMs > 0 && !this.#isClosed) {
      this.#ended.keep(key, { shared: new EndedStream(shared, ending), head: stream.head })
    } else {
      shared.log.close()
    }
  }

  #follow(request: SharingRequest, { leader }: Opening, stream: OpenedStream): void {
    if (request.isOver) return
    if (request !== leader) this.#context.observer.joined()
    refusing(request, () => follow(request, stream, request === leader, this.#context.share))
  }

  /** What a resume brings must be for all who follow, as the stream was until then. */
  #reopener(opening: Opening, open: OpenUpstream): OpenUpstream {
    return async (request) => {
      const response = await open({ ...request, isForAll: this.#isForFollowers(opening) })
      if (!isEventStream(response) || this.#isForAll(opening, response)) return response
      response.body.destroy()
      const cause = new Error('the upstream answered a resume for one of its clients alone')
      throw new StreamError('ERR_SSE_PROXY_UPSTREAM_LOST', cause)
    }
  }

  /** The same of what is polled, unless the stream is its leader's alone. */
  #isForFollowers(opening: Opening): (answer: UpstreamResponse) => boolean {
    return (answer) => !opening.stream || this.#isForAll(opening, answer)
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
      if (!request.isOver) refusing(request, () => (!isAlone && this.serve(request)) || request.alone())
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
    const requests = this.#takeAnswered(opening)
    this.#forget(opening)
    for (const request of requests) {
      if (collected instanceof UpstreamError) request.refuse(collected)
      else refusing(request, () => request.answer(answerFor(request, request === leader, response, collected)))
    }
  }

  /** An answer for its leader alone: the others ask for themselves. */
  #answerLeader(opening: Opening, response: UpstreamResponse): void {
    const requests = this.#takeAnswered(opening)
    this.#forget(opening)
    if (!requests.includes(opening.leader)) response.body.destroy()
    for (const request of requests) {
      if (request === opening.leader) refusing(request, () => request.answer(response))
      else request.alone()
    }
  }

  get #assignsIds(): boolean {
    return this.#context.share.replay.ids === 'assign'
  }

  #mayOpen({ req }: SharingRequest): boolean {
    return roleOf(req.method, this.#context.share) === 'open'
  }

  #outlives({ leader }: Opening): boolean {
    return outlivesReaders(leader.req.method, this.#context.share)
  }

  #wait(request: SharingRequest, opening: Opening): void {
    opening.lingering?.stop()
    this.#openings.wait(request, opening)
  }

  /** There will be no stream: those who came for one alone have nothing to wait for. */
  #dismissJoiners(opening: Opening): void {
    for (const request of opening.waiting) {
      if (this.#mayOpen(request)) continue
      this.#openings.stopWaiting(request, opening)
      if (!request.isOver) request.nothing()
    }
  }

  /** Those who get an answer that is no stream. */
  #takeAnswered(opening: Opening): SharingRequest[] {
    this.#dismissJoiners(opening)
    return this.#openings.takeWaiting(opening)
  }

  /** Nobody waits any more: it goes on as a stream would that nobody follows. */
  #linger(opening: Opening): void {
    const { lingerMs } = this.#context.share
    const { leader, client } = opening
    opening.lingering ??= new Lingering(
      {
        lingerMs,
        req: leader.req,
        budget: this.#budget,
        linger: (close) => this.#context.admission.linger(client, close),
      },
      () => this.#giveUp(opening),
    )
    opening.lingering.begin()
  }

  /** Gives up what has no answer yet. Who waits for one begins anew. */
  #giveUp(opening: Opening): void {
    const waiting = this.#openings.takeWaiting(opening)
    this.#abandon(opening, 'client-left')
    for (const request of waiting) refusing(request, () => this.serve(request) || request.alone())
  }

  /** Ends the upstream's request before there is a stream. */
  #abandon(opening: Opening, reason: CloseReason): void {
    this.#forget(opening)
    opening.controller.abort(reason)
  }

  /** It is over, or was for its leader alone. */
  #forget(opening: Opening): void {
    opening.lingering?.stop()
    this.#openings.delete(opening)
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
