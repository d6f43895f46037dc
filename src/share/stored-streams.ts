// Which clients share which stream where a store is shared with other nodes: by the hash of their key. A stream here is this
// node's part in the one that all nodes have together (`StoredStream`). What turns out not to be for all is served by the
// streams of this process alone.

import { createHmac, randomBytes } from 'node:crypto'
import createDebug from 'debug'
import type { Ticket } from '../admission.ts'
import { AdmissionError, UpstreamError } from '../errors.ts'
import type { ResolvedShare } from '../options/resolve-share.ts'
import type { ShareStore } from '../share-store.ts'
import type { SessionHead } from '../stream/session.ts'
import type { UpstreamResponse } from '../upstream-response.ts'
import { MemoryEventLog } from './event-log.ts'
import { follow } from './follow.ts'
import { NodePlaces } from './node-places.ts'
import type { LocalOutcome } from './nodes/entries.ts'
import { Member } from './nodes/member.ts'
import { StoreNode } from './nodes/node.ts'
import { stopRun } from './nodes/stop-run.ts'
import { refusing, type SharingRequest } from './opening.ts'
import { ReplayBudget } from './replay-budget.ts'
import { asksForStream, compactKey, ShareKeys } from './share-key.ts'
import { mayHaveBody, outlivesReaders, roleOf, whenBusy } from './share-methods.ts'
import { type SharedNow, SharedStreams } from './shared-streams.ts'
import type { SharedStreamsContext } from './shared-streams-context.ts'
import { StoredStream } from './stored-stream.ts'

const debug = createDebug('sse-proxy:store')

/** What the app's key is hashed with where the store has no secret. */
const NO_SECRET = 'sse-proxy-middleware'

/** What becomes of the store, for those who count and publish it. */
export interface StoreObserver {
  storeChanged(isUp: boolean, error: unknown): void
}

export interface StoredStreamsContext extends SharedStreamsContext {
  readonly store: ShareStore
  readonly observer: SharedStreamsContext['observer'] & StoreObserver
}

/** One key on this node. */
interface Entry {
  readonly key: string
  readonly base: string
  readonly stream: StoredStream
  /** In whose name this node asks the upstream. */
  leader: SharingRequest
  /** Those that are there, in the order in which they came. */
  readonly present: Set<SharingRequest>
  /** Those of them that have no head yet. */
  readonly waiting: Set<SharingRequest>
  /** Under which heads clients get it, once it is known. */
  heads: { readonly head: SessionHead; readonly own: SessionHead | undefined } | undefined
  /** Its place of the limits, while no client follows it or waits for it. */
  place: Ticket | undefined
}

export class StoredStreams {
  /** Absent where clients are not limited. */
  readonly places: NodePlaces | undefined
  readonly #context: StoredStreamsContext
  readonly #node: StoreNode
  readonly #keys: ShareKeys
  // Bounds what is kept of all of them here.
  readonly #budget: ReplayBudget
  // For what is not for all.
  readonly #local: SharedStreams
  readonly #entries = new Map<string, Entry>()
  readonly #present = new Map<SharingRequest, Entry>()

  constructor(context: StoredStreamsContext) {
    const { options, share, admission, store, observer } = context
    this.#context = context
    this.#keys = new ShareKeys(share.key, undefined, new Set(options.stripHeaders))
    this.#budget = new ReplayBudget(share.maxBytes, () => admission.closeOldestLingering())
    this.#local = new SharedStreams(context)
    this.#node = new StoreNode({
      name: randomBytes(12).toString('hex'),
      store,
      now: () => performance.now(),
      after: (ms, callback) => {
        const timer = setTimeout(callback, ms).unref()
        return () => clearTimeout(timer)
      },
      chance: Math.random,
      onUp: (isUp, error) => {
        debug('the store is %s: %o', isUp ? 'up' : 'away', error)
        observer.storeChanged(isUp, error)
      },
    })
    const { streamsPerClient } = options.limits
    this.places =
      streamsPerClient === 0
        ? undefined
        : new NodePlaces(this.#node, streamsPerClient, (client) => this.#hashOf(client))
  }

  get stats(): SharedNow {
    const local = this.#local.stats
    const entries = [...this.#entries.values()]
    const clients = entries.map(({ stream }) => stream.clients)
    return {
      streams: local.streams + entries.filter(({ heads }) => heads).length,
      clients: local.clients + clients.reduce((sum, count) => sum + count, 0),
      unread: local.unread + entries.filter(({ heads, stream }) => heads && stream.clients === 0).length,
      kept: local.kept,
      store: {
        isUp: this.#node.isUp === true,
        owned: entries.filter(({ stream }) => stream.member?.isOwner).length,
        followed: entries.filter(({ heads, stream }) => heads && !stream.member?.isOwner).length,
        ...this.#node.counts,
      },
    }
  }

  /** Whether a stream goes on that is worth waiting for although no client follows it. */
  get goesOn(): boolean {
    const { share } = this.#context
    const owned = [...this.#entries.values()].filter(({ stream }) => stream.member?.isOwner)
    return this.#local.goesOn || owned.some(({ leader }) => outlivesReaders(leader.req.method, share))
  }

  /** Hands over to other nodes what this one owns, and ends the rest; resolves when the store knows, or does not answer. */
  async close(): Promise<void> {
    this.#local.close()
    for (const { stream } of this.#entries.values()) stream.member?.handOver()
    const { members, now, store } = this.#node
    const until = now() + store.leaseMs / 2
    // While the store is away nothing can be handed over: that is not waited for any longer.
    while (members.size > 0 && now() < until) await new Promise((resolve) => setTimeout(resolve, 5))
    await this.#node.close()
  }

  /** Ends the stream with this key of the app's, on whichever node it runs. */
  stop(key: string): Promise<boolean> {
    return this.#stop(this.#hashOf(compactKey(key)))
  }

  /**
   * Serves a client from a shared stream; false where it is not to be shared.
   * @throws AdmissionError
   */
  serve(request: SharingRequest): boolean {
    const { req } = request
    const { share, store } = this.#context
    const role = roleOf(req.method, share)
    if (role === 'unshared') return false
    const base = this.#keys.baseOf(req)
    if (role === 'stop') {
      void this.#stopFor(request, base)
      return true
    }
    const isPrivate = base !== undefined && this.#keys.isPrivate(base, performance.now())
    if (role === 'join' && (base === undefined || isPrivate)) {
      request.nothing()
      return true
    }
    if (base === undefined || isPrivate) return false
    if (role === 'open' && !mayHaveBody(req.method) && !asksForStream(req)) return false
    if (this.#node.isUp === false && store.onDown === 'refuse') throw new AdmissionError('ERR_SSE_PROXY_STORE')
    this.#enter(request, base)
    return true
  }

  /** A client has left, or has its answer. */
  leave(request: SharingRequest): void {
    this.#local.leave(request)
    const entry = this.#present.get(request)
    if (!entry) return
    this.#present.delete(request)
    entry.present.delete(request)
    if (!entry.waiting.delete(request)) return
    // Without its whole body the upstream has only half a request.
    if (request === entry.leader && !request.isSent) entry.stream.member?.end('lost')
    this.#regard(entry)
  }

  #enter(request: SharingRequest, base: string): void {
    const key = this.#hashOf(base)
    const entry = this.#entries.get(key)
    const isOpener = roleOf(request.req.method, this.#context.share) === 'open'
    const busy = isOpener ? whenBusy(request.req.method, this.#context.share) : 'join'
    if (entry && busy === 'refuse') throw new AdmissionError('ERR_SSE_PROXY_BUSY')
    request.admit(entry?.place)
    void this.#joinWithPlace(request, key, base, busy)
  }

  async #joinWithPlace(request: SharingRequest, key: string, base: string, busy: ResolvedShare['busy']): Promise<void> {
    try {
      await this.places?.take(request)
      if (!request.isOver) this.#join(request, key, base, busy)
    } catch (error) {
      request.refuse(error)
    }
  }

  #join(request: SharingRequest, key: string, base: string, busy: ResolvedShare['busy']): void {
    let entry = this.#entries.get(key)
    if (entry && busy === 'refuse') throw new AdmissionError('ERR_SSE_PROXY_BUSY')
    if (entry && busy === 'replace') {
      this.#entries.delete(key)
      entry.stream.member?.end('replaced')
      entry = undefined
    }
    entry ??= this.#create(request, key, base, busy)
    entry.waiting.add(request)
    entry.present.add(request)
    this.#present.set(request, entry)
    this.#regard(entry)
    if (entry.heads) this.#letIn(entry)
  }

  #create(leader: SharingRequest, key: string, base: string, busy: ResolvedShare['busy']): Entry {
    const { options, share, moves, observer, nextId } = this.#context
    const mayOpen = roleOf(leader.req.method, share) === 'open'
    const stream = new StoredStream({
      id: nextId(),
      options,
      share,
      moves,
      observer,
      nextLeader: () => this.#nextLeader(entry),
      createLog: (idBefore) => new MemoryEventLog(share.replay, idBefore, this.#budget),
      settle: () => this.#budget.settle(),
      isForAll: (response) => this.#isForAll(base, response),
      onReady: (head, own) => {
        entry.heads = { head, own }
        // What is over by then is told with it.
        queueMicrotask(() => this.#letIn(entry))
      },
      onAnswer: (response) => this.#answer(entry, response),
      onRefused: (error) => this.#refuse(entry, error),
      onFollowers: () => this.#regard(entry),
      onOver: (outcome) => this.#onOver(entry, outcome),
    })
    const entry: Entry = {
      ...{ key, base, stream, leader, present: new Set(), waiting: new Set(), heads: undefined, place: undefined },
    }
    this.#entries.set(key, entry)
    stream.member = new Member(
      this.#node,
      {
        key,
        mayOpen,
        joinsEnded: !mayHaveBody(leader.req.method),
        busy,
        isReopenable: !mayHaveBody(leader.req.method),
        bounds: share.replay,
        bufferBytes: options.limits.bufferBytes,
        keepEndedMs: share.keepEndedMs,
        lingerMs: share.lingerMs,
      },
      stream,
    )
    return entry
  }

  /**
   * The upstream is asked with the credentials of a client that is connected. Those of one that has left may have been revoked:
   * the upstream would refuse all clients, or still send what they were revoked for. A request with a body is never asked again
   * in another client's name.
   */
  #nextLeader(entry: Entry): SharingRequest {
    const { leader, present } = entry
    if (!mayHaveBody(leader.req.method) && !present.has(leader)) {
      entry.leader = [...present].find(({ req }) => !mayHaveBody(req.method)) ?? leader
    }
    return entry.leader
  }

  /** All who wait follow it now. */
  #letIn(entry: Entry): void {
    const { heads, stream, leader } = entry
    if (!heads) return
    for (const request of [...entry.waiting]) {
      entry.waiting.delete(request)
      if (request.isOver) continue
      // A client that has all of what is over, and cannot know, is told so.
      const { log } = stream
      const hasAll = stream.isOver && request.lastEventId !== '' && log.positionAfter(request.lastEventId) === log.end
      if (hasAll) {
        request.nothing()
        continue
      }
      const isLeader = request === leader && heads.own !== undefined
      if (!isLeader) this.#context.observer.joined()
      const followed = { shared: stream, head: (isLeader && heads.own) || heads.head }
      refusing(request, () => follow(request, followed, isLeader, this.#context.share))
    }
    this.#regard(entry)
  }

  /** The member is to know whether there are clients; what goes on without them takes a place of the limits. */
  #regard(entry: Entry): void {
    const { stream, waiting, leader } = entry
    if (stream.isOver) return
    const isWanted = stream.clients > 0 || waiting.size > 0
    stream.member?.want(isWanted)
    if (isWanted) {
      entry.place?.giveBack()
      entry.place = undefined
    } else if (!stream.isOver) {
      entry.place ??= this.#context.admission.linger(leader.client, () => {
        entry.place?.giveBack()
        entry.place = undefined
        stream.member?.handOver()
      })
    }
  }

  #isForAll(base: string, response: UpstreamResponse): boolean {
    // A key is computed alike on every node, so an answer may not depend on more than that.
    const isForAll = !this.#keys.isPersonal(base, response) && this.#keys.variedBy(response).length === 0
    if (!isForAll) this.#keys.rememberPrivate(base, performance.now())
    return isForAll
  }

  /** An answer that is no stream for all: its leader gets it, and the others ask for themselves when they hear of it. */
  #answer(entry: Entry, response: UpstreamResponse): void {
    const { leader } = entry
    const isWaitedFor = entry.waiting.has(leader) && !leader.isOver
    entry.waiting.delete(leader)
    if (!isWaitedFor) return response.body.destroy()
    refusing(leader, () => leader.answer(response))
  }

  #refuse(entry: Entry, error: unknown): void {
    for (const request of [...entry.waiting]) {
      entry.waiting.delete(request)
      if (!request.isOver) request.refuse(error)
    }
  }

  #onOver(entry: Entry, outcome: LocalOutcome): void {
    if (this.#entries.get(entry.key) === entry) this.#entries.delete(entry.key)
    entry.place?.giveBack()
    entry.place = undefined
    if (outcome === 'ended') this.#letIn(entry)
    for (const request of [...entry.waiting]) {
      entry.waiting.delete(request)
      if (request.isOver) continue
      refusing(request, () => this.#serveAfter(request, entry, outcome))
    }
  }

  /** What one gets that waited for a stream that there will not be. */
  #serveAfter(request: SharingRequest, { base, key }: Entry, outcome: LocalOutcome): void {
    switch (outcome) {
      case 'unshared':
        if (!this.#local.serve(request)) request.alone()
        return
      case 'busy':
        return request.refuse(new AdmissionError('ERR_SSE_PROXY_BUSY'))
      case 'none':
      case 'stopped':
        return request.nothing()
      case 'left':
      case 'replaced':
        return this.#join(request, key, base, 'join')
      default:
        return request.refuse(new UpstreamError('ERR_SSE_PROXY_UNREACHABLE'))
    }
  }

  async #stopFor(request: SharingRequest, base: string | undefined): Promise<void> {
    try {
      if (base !== undefined && (await this.#stop(this.#hashOf(base)))) request.nothing()
      else request.refuse(new AdmissionError('ERR_SSE_PROXY_NO_STREAM'))
    } catch (error) {
      request.refuse(error)
    }
  }

  /** While the store is away that is this node's stream alone. */
  async #stop(key: string): Promise<boolean> {
    if (this.#node.isUp) return await stopRun(this.#node, key)
    const entry = this.#entries.get(key)
    entry?.stream.member?.end('stopped')
    return entry !== undefined
  }

  /** Stands for a key in the store. A key may hold credentials, which cannot be read out of its hash. */
  #hashOf(text: string): string {
    const { options, store } = this.#context
    return createHmac('sha256', store.secret || NO_SECRET)
      .update(JSON.stringify([options.name, text]))
      .digest('hex')
  }
}
