// Which clients share an upstream stream: who opens one, who waits for it, who comes later, and who stops it. What becomes of
// the upstream's answer is told in shared-answers.ts, and how a client gets in in follow.ts.

import createDebug from 'debug'
import { AdmissionError, type CloseReason } from '../errors.ts'
import type { ResolvedOptions } from '../options/resolve-options.ts'
import { EndedStreams, type Kept } from './ended-streams.ts'
import { follow } from './follow.ts'
import { Lingering } from './lingering.ts'
import { Opening, type OpeningKeys, refusing, type SharingRequest } from './opening.ts'
import { Openings } from './openings.ts'
import { ReplayBudget } from './replay-budget.ts'
import { asksForStream, compactKey, ShareKeys, variantKey } from './share-key.ts'
import { mayHaveBody, outlivesReaders, roleOf, whenBusy } from './share-methods.ts'
import { SharedAnswers } from './shared-answers.ts'
import type { SharedStreamsContext } from './shared-streams-context.ts'

const debug = createDebug('sse-proxy:stream')

// A client that stands elsewhere than a stream that is being opened gets one of its own, a variant of that key. So many
// at most; a crowd gets what there is.
const MAX_VARIANTS = 16

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
  readonly #answers: SharedAnswers

  constructor(context: SharedStreamsContext) {
    const { options, share, admission } = context
    this.#context = context
    const warning = share.keyTakesRequest ? (text: string) => warn(options, text) : undefined
    this.#keys = new ShareKeys(share.key, warning, new Set(options.stripHeaders))
    this.#budget = new ReplayBudget(share.maxBytes, () => this.#ended.dropOldest() || admission.closeOldestLingering())
    this.#ended = new EndedStreams(share.keepEndedMs, this.#budget)
    this.#answers = new SharedAnswers({
      ...context,
      keys: this.#keys,
      openings: this.#openings,
      ended: this.#ended,
      budget: this.#budget,
      serve: (request) => this.serve(request),
    })
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
    this.#openings.isClosed = true
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
    if (this.#outlives(opening) && !this.#openings.isClosed) this.#linger(opening)
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
    if (opening.stream) return this.#answers.follow(request, opening, opening.stream)
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
      const isForAll = this.#answers.isForFollowers(opening)
      // Ids of the proxy's own mean nothing to the upstream.
      const response = await open(this.#assignsIds ? { lastEventId: '', isForAll, signal } : { isForAll, signal })
      this.#answers.take(opening, response)
    } catch (error) {
      this.#answers.refuse(opening, error)
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

  /** No request waits any more: it lingers as a stream without followers does. */
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
    this.#openings.delete(opening)
    opening.controller.abort(reason)
  }
}

/** Tells the app of a likely mistake, in the debug log and through its logger. */
function warn({ hpm, name }: ResolvedOptions, text: string): void {
  debug('%s: %s', name, text)
  hpm.logger?.warn(`[${name}] ${text}`)
}
