// Which clients share an upstream stream, and how each gets into it: who opens it, who waits for it, who comes later.

import type { IncomingMessage, ServerResponse } from 'node:http'
import createDebug from 'debug'
import { Abort } from '../abort.ts'
import type { Admission, Ticket } from '../admission.ts'
import { StreamError, UpstreamError } from '../errors.ts'
import { clientEventId } from '../events/event-id.ts'
import type { ResolvedOptions } from '../options/resolve-options.ts'
import type { ResolvedShare } from '../options/resolve-share.ts'
import { eventStreamOf } from '../stream/event-stream.ts'
import { shareableAnswerHeaders, shareableHeaders, withGap } from '../stream/response-headers.ts'
import type { Session } from '../stream/session.ts'
import { isEventStream, type OpenUpstream, type UpstreamBody, type UpstreamResponse } from '../upstream-response.ts'
import { bodyOf, collect, lengthOf } from './collect.ts'
import { MemoryEventLog } from './event-log.ts'
import { followerOf } from './followers.ts'
import { ReplayBudget } from './replay-budget.ts'
import { asksForStream, compactKey, isPersonal, ShareKeys, variedHeaders } from './share-key.ts'
import { SharedStream, type SharedStreamObserver } from './shared-stream.ts'

const debug = createDebug('sse-proxy:stream')

/** A client that would be content with a shared stream. */
export interface Guest {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  /** Whether it has left. */
  readonly isOver: boolean
  /** Whose place of the limits it has; only known where clients are limited. */
  readonly client: string | undefined
  /**
   * Takes a place of the limits, once.
   * @param heir the place of a stream without a follower, which this guest will follow
   * @throws AdmissionError
   */
  admit(heir: Ticket | undefined): void
  /** Gets its own request an answer. */
  open(): OpenUpstream
  session(): Session
  /** Serves it without sharing after all. */
  alone(): void
  answer(response: UpstreamResponse): void
  refuse(error: unknown): void
}

/** A stream, or an answer that is on its way and may become one. */
interface Entry {
  key: string
  /** The names of the headers that all who have this key agree in. */
  varies: string
  readonly opener: Guest
  /** The opener's, who may leave before the others. */
  readonly client: string | undefined
  readonly controller: Abort
  /** Those who came before there was an answer, the opener among them. */
  readonly waiting: Set<Guest>
  /** Other streams of this key, for those who stand elsewhere. */
  branches: number
  stream?: { readonly shared: SharedStream; readonly response: UpstreamResponse }
}

// Whoever wants to begin elsewhere while a stream is being opened gets one of its own; a crowd gets what there is.
const MAX_BRANCHES = 16

export class SharedStreams {
  readonly #options: ResolvedOptions
  readonly #share: ResolvedShare
  readonly #observer: SharedStreamObserver
  readonly #nextId: () => string
  readonly #admission: Admission
  readonly #budget: ReplayBudget
  readonly #entries = new Map<string, Entry>()
  readonly #live = new Set<SharedStream>()
  readonly #waiting = new Map<Guest, Entry>()
  readonly #keys: ShareKeys

  constructor(
    options: ResolvedOptions,
    share: ResolvedShare,
    observer: SharedStreamObserver,
    nextId: () => string,
    admission: Admission,
  ) {
    this.#options = options
    this.#admission = admission
    this.#budget = new ReplayBudget(share.maxBytes, () => admission.closeOldestLingering())
    this.#share = share
    this.#observer = observer
    this.#nextId = nextId
    this.#keys = new ShareKeys(share.key, share.keyTakesRequest ? (text) => warn(options, text) : undefined)
  }

  get stats(): { streams: number; clients: number } {
    const open = [...this.#live]
    return { streams: open.length, clients: open.reduce((sum, { clients }) => sum + clients, 0) }
  }

  /** Ends those that nobody follows. */
  close(): void {
    for (const shared of this.#live) {
      if (shared.clients === 0) shared.close()
    }
  }

  /** Serves a client from a shared stream; false where it is not to be shared. */
  serve(guest: Guest): boolean {
    const { req } = guest
    if (req.method !== 'GET') return false
    const base = this.#keys.baseOf(req)
    if (base === undefined || !asksForStream(req)) return false
    const key = this.#keys.full(base, req)
    if (this.#keys.isPrivate(key, performance.now())) return false
    guest.admit(this.#entries.get(key)?.stream?.shared.place)
    this.#join(guest, key, base)
    return true
  }

  /** A client that is still waiting has left. */
  leave(guest: Guest): void {
    const entry = this.#waiting.get(guest)
    if (!entry?.waiting.delete(guest)) return
    this.#waiting.delete(guest)
    if (entry.waiting.size > 0 || entry.stream) return
    this.#remove(entry)
    entry.controller.abort('client-left')
  }

  #join(guest: Guest, key: string, base: string): void {
    const entry = this.#entries.get(key)
    if (entry?.stream) return this.#admit(entry, guest, entry.stream)
    if (!entry) return void this.#open(guest, key, base)
    // What the upstream will begin with depends on where the opener stands.
    const eventId = eventIdOf(guest)
    const standsElsewhere = this.#share.replay.ids === 'upstream' && eventId !== eventIdOf(entry.opener)
    if (!standsElsewhere || entry.branches >= MAX_BRANCHES) return this.#wait(guest, entry)
    const branch = compactKey(JSON.stringify([key, eventId]))
    if (!this.#entries.has(branch)) entry.branches++
    this.#join(guest, branch, base)
  }

  async #open(opener: Guest, key: string, base: string): Promise<void> {
    const entry: Entry = {
      key,
      varies: this.#keys.variesOf(base),
      opener,
      client: opener.client,
      controller: new Abort(),
      waiting: new Set(),
      branches: 0,
    }
    this.#entries.set(key, entry)
    this.#wait(opener, entry)
    const signal = entry.controller
    try {
      const open = opener.open()
      // Ids of our own mean nothing to the upstream.
      const response = await open(this.#share.replay.ids === 'assign' ? { lastEventId: '', signal } : { signal })
      this.#opened(entry, base, open, response)
    } catch (error) {
      this.#remove(entry)
      for (const guest of this.#takeWaiting(entry)) guest.refuse(error)
    }
  }

  #opened(entry: Entry, base: string, open: OpenUpstream, response: UpstreamResponse): void {
    const body = eventStreamOf(response, this.#options.timeouts.idleMs)
    if (body) this.#startShared(entry, base, open, response, body)
    else void this.#answerAll(entry, base, response)
  }

  #startShared(entry: Entry, base: string, open: OpenUpstream, response: UpstreamResponse, body: UpstreamBody): void {
    const { opener, controller } = entry
    if (this.#setApart(entry, base, response)) {
      this.#rememberPrivate(entry, base)
      for (const guest of this.#takeWaiting(entry)) guest.answer(response)
      if (opener.isOver) response.body.destroy()
      return
    }
    const assigns = this.#share.replay.ids === 'assign'
    const lastEventId = assigns ? '' : eventIdOf(opener)
    const shared = new SharedStream({
      id: this.#nextId(),
      req: opener.req,
      res: opener.res,
      controller,
      options: this.#options,
      share: this.#share,
      open: () => {
        const reopen = this.#reopener(entry, base, open)
        return assigns ? (request) => reopen({ ...request, lastEventId: request.lastEventId ?? '' }) : reopen
      },
      lastEventId,
      observer: this.#observer,
      log: new MemoryEventLog(this.#share.replay, lastEventId, this.#budget),
      budget: this.#budget,
      linger: (close) => this.#admission.linger(entry.client, close),
      // Nobody can come back to one whose place another has taken.
      lingers: () => this.#entries.get(entry.key) === entry,
      onOver: () => {
        this.#live.delete(shared)
        this.#remove(entry)
      },
    })
    this.#live.add(shared)
    entry.stream = { shared, response }
    // Everybody is in before the first event, so that nobody who waited misses it.
    for (const guest of this.#takeWaiting(entry)) this.#admit(entry, guest, entry.stream)
    shared.start(response, body)
    shared.lingerIfEmpty()
  }

  /**
   * Serves those apart who wait but would have got another answer, now that it says what it depends on.
   * @returns whether the answer is its opener's alone
   */
  #setApart(entry: Entry, base: string, response: UpstreamResponse): boolean {
    const isAlone = this.#isPersonal(base, response)
    const names = this.#share.key ? [] : variedHeaders(response)
    if (!isAlone && names.length === 0) return false
    const { opener } = entry
    this.#remove(entry)
    entry.key = this.#keys.full(base, opener.req)
    entry.varies = this.#keys.variesOf(base)
    if (!isAlone && !this.#entries.has(entry.key)) this.#entries.set(entry.key, entry)
    const isStranger = (guest: Guest) => guest !== opener && (isAlone || this.#keys.full(base, guest.req) !== entry.key)
    const strangers = [...entry.waiting].filter(isStranger)
    for (const guest of strangers) this.#stopWaiting(guest, entry)
    for (const guest of strangers) this.#separate(guest, isAlone)
    return isAlone
  }

  #separate(guest: Guest, isAlone: boolean): void {
    // A crowd whose answers are private does not queue for them one by one.
    if (!guest.isOver && (isAlone || !this.serve(guest))) guest.alone()
  }

  /** Whether an answer is for one client, unless the app has said who shares; what it depends on is remembered. */
  #isPersonal(base: string, response: UpstreamResponse): boolean {
    if (this.#share.key) return false
    const isKept = this.#keys.remember(base, variedHeaders(response))
    return isPersonal(response) || !isKept
  }

  #rememberPrivate({ opener }: Entry, base: string): void {
    this.#keys.rememberPrivate(this.#keys.full(base, opener.req), performance.now())
  }

  /** What a resume brings must be for all who follow, as the stream was until then. */
  #reopener(entry: Entry, base: string, open: OpenUpstream): OpenUpstream {
    if (this.#share.key) return open
    return async (request) => {
      const response = await open(request)
      if (!isEventStream(response)) return response
      const isAlone = this.#isPersonal(base, response)
      const agreed = entry.varies.split(',')
      if (!isAlone && variedHeaders(response).every((name) => agreed.includes(name))) return response
      if (isAlone) this.#rememberPrivate(entry, base)
      response.body.destroy()
      const cause = new Error('the upstream answered a resume for one of its clients alone')
      throw new StreamError('ERR_SSE_PROXY_UPSTREAM_LOST', cause)
    }
  }

  #admit(entry: Entry, guest: Guest, stream: NonNullable<Entry['stream']>): void {
    if (guest.isOver) return
    try {
      this.#letFollow(entry, guest, stream)
    } catch (error) {
      // What is wrong with one of them is nothing to the others.
      guest.refuse(error)
    }
  }

  #letFollow(entry: Entry, guest: Guest, { shared, response }: NonNullable<Entry['stream']>): void {
    const own = guest === entry.opener
    const { req } = guest
    const { log } = shared
    log.trim(performance.now())
    const requested = eventIdOf(guest)
    const known = own && !requested ? log.end : log.positionAfter(requested)
    const live = log.beforeLast(this.#share.replay.initial)
    const gap = requested !== '' && known === undefined
    const headers = own ? response.headers : shareableHeaders(response.headers, req)
    const session = guest.session()
    debug('%s follows the shared stream %s', session.handle.id, shared.handle.id)
    const position = gap ? log.first : requested === '' ? live : (known ?? live)
    session.start(
      { ...(own ? response : withoutCookie(response)), headers: gap ? withGap(headers, log.idBefore) : headers },
      followerOf(shared, session, position),
    )
    if (gap && !session.isOver) this.#tellGap(session, requested, log.idBefore)
  }

  #tellGap(session: Session, requested: string, before: string): void {
    session.tell('share.onGap', () =>
      this.#share.onGap?.(session.handle, { requestedId: requested, resumedAfterId: before }),
    )
  }

  /** An answer that is no stream, for all who waited for it where it is short, for the opener alone otherwise. */
  async #answerAll(entry: Entry, base: string, response: UpstreamResponse): Promise<void> {
    const { opener, waiting, controller } = entry
    this.#setApart(entry, base, response)
    const isAlone = waiting.size === 0 || (waiting.size === 1 && waiting.has(opener))
    const length = lengthOf(response)
    if (isAlone || length === undefined || length > this.#options.limits.bodyBytes) {
      return this.#answerOpener(entry, response)
    }
    // Until all of it is here it goes when all who wait for it have gone.
    controller.onAbort(() => response.body.destroy())
    const collected = await collect(response.body, length).catch(
      (error) => new UpstreamError('ERR_SSE_PROXY_BAD_ANSWER', response.upstream, error),
    )
    this.#remove(entry)
    for (const guest of this.#takeWaiting(entry)) {
      if (collected instanceof UpstreamError) guest.refuse(collected)
      else this.#answer(guest, answerFor(guest, guest === opener, response, collected))
    }
  }

  #answerOpener(entry: Entry, response: UpstreamResponse): void {
    this.#remove(entry)
    const guests = this.#takeWaiting(entry)
    if (!guests.includes(entry.opener)) response.body.destroy()
    for (const guest of guests) {
      if (guest !== entry.opener) guest.alone()
      else this.#answer(guest, response)
    }
  }

  #answer(guest: Guest, response: UpstreamResponse): void {
    try {
      guest.answer(response)
    } catch (error) {
      // What is wrong with one of them is nothing to the others.
      guest.refuse(error)
    }
  }

  #takeWaiting(entry: Entry): Guest[] {
    const waiting = [...entry.waiting]
    for (const guest of waiting) this.#stopWaiting(guest, entry)
    return waiting.filter((guest) => !guest.isOver)
  }

  #wait(guest: Guest, entry: Entry): void {
    entry.waiting.add(guest)
    this.#waiting.set(guest, entry)
  }

  #stopWaiting(guest: Guest, entry: Entry): void {
    entry.waiting.delete(guest)
    this.#waiting.delete(guest)
  }

  #remove(entry: Entry): void {
    if (this.#entries.get(entry.key) === entry) this.#entries.delete(entry.key)
  }
}

function eventIdOf({ req }: Guest): string {
  return clientEventId(req.headers, req.url ?? '')
}

/** Its part of an answer that is no stream. */
function answerFor(guest: Guest, own: boolean, response: UpstreamResponse, bytes: Buffer): UpstreamResponse {
  const headers = own ? response.headers : shareableAnswerHeaders(response.headers, guest.req)
  return { ...(own ? response : withoutCookie(response)), headers, body: bodyOf(bytes) }
}

function withoutCookie({ cookie: _, ...response }: UpstreamResponse): UpstreamResponse {
  return response
}

function warn({ hpm, name }: ResolvedOptions, text: string): void {
  debug('%s: %s', name, text)
  hpm.logger?.warn(`[${name}] ${text}`)
}
