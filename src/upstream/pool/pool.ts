// The upstreams of a middleware: how many streams each carries, how it fares, and which one takes the next request.

import type { IncomingMessage } from 'node:http'
import { UpstreamError } from '../../errors.ts'
import type { HpmTarget } from '../../hpm.ts'
import type { HealthPolicy } from '../../options/resolve-health.ts'
import type { UpstreamPolicy } from '../../options/resolve-upstreams.ts'
import type { BalanceCandidate } from '../../options/upstream-options.ts'
import type { Balance } from './balance.ts'
import { Health } from './health.ts'
import { type KeyMemory, type ReadKey, rank, type StickyCookie } from './sticky.ts'

/** An attempt that has no answer yet. */
export interface OpenAttempt {
  /** Its upstream is not one of the targets any more. */
  onGone(): void
}

/** One upstream. To the app's `balance` function it is a candidate. */
export class Member implements BalanceCandidate {
  readonly url: string
  readonly health: Health
  /** Those that another upstream may be asked for in its place. */
  readonly attempts: Set<OpenAttempt> = new Set()
  /** Requests that have not ended. */
  active = 0
  /** Requests that it was chosen for, retries included. */
  requests = 0
  // As the latest list of targets has it.
  #policy: UpstreamPolicy
  // Once, and not for every request.
  #parsed: HpmTarget

  constructor(policy: UpstreamPolicy, health: HealthPolicy | false) {
    this.url = policy.url
    this.health = new Health(health)
    this.#policy = policy
    this.#parsed = parsed(policy.target)
  }

  /** As it was written, which is how the app's functions get it. */
  get target(): HpmTarget {
    return this.#policy.target
  }

  get parsed(): HpmTarget {
    return this.#parsed
  }

  get weight(): number {
    return this.#policy.weight
  }

  /** Of its own, for each request that it gets. */
  get headers(): UpstreamPolicy['headers'] {
    return this.#policy.headers
  }

  /** Another list of targets has it too. */
  update(policy: UpstreamPolicy): this {
    this.#policy = policy
    this.#parsed = parsed(policy.target)
    return this
  }

  get healthy(): boolean {
    return this.health.dueAt(performance.now()) === 0
  }

  /**
   * When it may be asked again, in the time of `Date.now()`; for stats and channels. Decisions go by `performance.now()`, which
   * does not jump when the machine's clock is set.
   */
  get ejectedUntil(): number {
    const now = performance.now()
    const dueAt = this.health.dueAt(now)
    return dueAt === 0 ? 0 : Math.round(Date.now() + dueAt - now)
  }
}

/** What ties clients to members: a key that they bring, or a cookie of the package's own. */
export interface Stickiness {
  /** Reads the key of a client that brings one. */
  readonly readKey: ReadKey | undefined
  readonly memory: KeyMemory | undefined
  readonly cookie: StickyCookie | undefined
}

/** What a request has been through. */
export interface Choice {
  /** Asked before in vain, for this request. */
  readonly tried: ReadonlySet<Member>
  /** The upstream that has just lost this request's stream. */
  readonly avoid: string | undefined
  /** The upstream that it has been with. */
  readonly stay?: string | undefined
}

/** Chooses members for requests, and counts what each has. */
export class Pool {
  /** Told of a member that has gone, and again when the last of its requests is over. */
  onGone: (member: Member) => void = () => {}
  readonly #balance: Balance<Member>
  readonly #sticky: Stickiness | undefined
  // Whether a request may stay where it has been, which the balance does not know.
  readonly #mayStay: boolean
  // In the order of the targets; never empty.
  #members: readonly Member[]
  // Those that have gone and have requests yet. One that comes back meanwhile is the same.
  readonly #leaving = new Set<Member>()

  constructor(members: readonly Member[], balance: Balance<Member>, sticky: Stickiness | undefined, mayStay = true) {
    this.#members = members
    this.#balance = balance
    this.#sticky = sticky
    this.#mayStay = mayStay
  }

  /** Those that may be chosen, in the order of the targets. */
  get members(): readonly Member[] {
    return this.#members
  }

  /** Those that may not be chosen any more, and have requests yet. */
  get leaving(): Iterable<Member> {
    return this.#leaving
  }

  /** Whether a stream of this upstream is where it may stay. */
  has(url: string): boolean {
    return this.#members.some((member) => member.url === url)
  }

  /** Other targets: an upstream that is known by its URL stays who it is, with its counts and its health. */
  replace(upstreams: readonly UpstreamPolicy[], health: HealthPolicy | false): void {
    const before = this.#members
    const known = new Map([...before, ...this.#leaving].map((member) => [member.url, member]))
    this.#members = upstreams.map(
      (upstream) => known.get(upstream.url)?.update(upstream) ?? new Member(upstream, health),
    )
    for (const member of this.#members) this.#leaving.delete(member)
    const staying = new Set(this.#members)
    for (const member of before) if (!staying.has(member)) this.#letGo(member)
  }

  #letGo(member: Member): void {
    if (member.active > 0) this.#leaving.add(member)
    for (const attempt of [...member.attempts]) attempt.onGone()
    this.onGone(member)
  }

  /** Whether a request has a fair chance: see `ready()`. */
  get hasHealthy(): boolean {
    return this.#members.some((member) => member.healthy)
  }

  /**
   * Takes a member for a request, until `giveBack`.
   * @param now as `performance.now()`
   * @throws UpstreamError when the app's balance function fails.
   */
  choose(req: IncomingMessage, choice: Choice, now: number = performance.now()): Member {
    const member = this.#choose(req, choice, now)
    member.active++
    member.requests++
    // The app's function may have changed the targets.
    if (!this.#members.includes(member)) this.#leaving.add(member)
    return member
  }

  /** Whether there is one that was not asked before, for this request. */
  hasUntried(tried: ReadonlySet<Member>): boolean {
    return this.#members.some((member) => !tried.has(member))
  }

  #choose(req: IncomingMessage, { tried, avoid, stay }: Choice, now: number): Member {
    const candidates = this.#candidates(tried, now)
    const before = this.#mayStay ? candidates.find(({ url }) => url === stay) : undefined
    return this.#preferred(req, candidates, now) ?? before ?? this.#balanced(req, without(avoid, candidates))
  }

  #candidates(tried: ReadonlySet<Member>, now: number): readonly Member[] {
    // The only one is asked however it fares.
    if (this.#members.length === 1) return this.#members
    const untried = this.#members.filter((member) => !tried.has(member))
    const open = untried.length > 0 ? untried : this.#members
    const due = open.filter((member) => member.health.dueAt(now) === 0)
    // All out: the one that is due soonest is asked, since not asking would be certain to fail.
    return due.length > 0 ? due : soonest(open, now)
  }

  /** The request of a `choose` has ended, or has failed. */
  giveBack(member: Member): void {
    member.active--
    if (member.active === 0 && this.#leaving.delete(member)) this.onGone(member)
  }

  /** The cookie to give to a client that `member` has answered, where it has none that says so. */
  cookieFor(req: IncomingMessage, member: Member, now: number = Date.now()): string | undefined {
    const cookie = this.#sticky?.cookie
    // One whose own upstream is down keeps its cookie, and comes back.
    if (!cookie || cookie.read(req, this.#members, now)) return undefined
    return cookie.issue(req, member, now)
  }

  #preferred(req: IncomingMessage, candidates: readonly Member[], now: number): Member | undefined {
    const sticky = this.#sticky
    if (!sticky) return undefined
    // Cookies are read where they were not written, and after restarts.
    const named = sticky.cookie?.read(req, this.#members, Date.now())
    if (named) return candidates.includes(named) ? named : undefined
    const key = checkKey(sticky.readKey?.(req))
    if (key === '') return undefined
    const kept = sticky.memory?.recall(key, now)
    // Where its home is down, every process sends the key to the same next one.
    const member = candidates.find(({ url }) => url === kept) ?? rank(key, candidates)[0]
    if (member) sticky.memory?.keep(key, member.url, now)
    return member
  }

  #balanced(req: IncomingMessage, candidates: readonly Member[]): Member {
    let chosen: Member | undefined
    try {
      chosen = this.#balance(candidates, req)
    } catch (error) {
      throw new UpstreamError('ERR_SSE_PROXY_NO_UPSTREAM', undefined, error)
    }
    if (chosen) return chosen
    throw new UpstreamError(
      'ERR_SSE_PROXY_NO_UPSTREAM',
      undefined,
      new Error('balance returned none of its candidates'),
    )
  }
}

function parsed(target: HpmTarget): HpmTarget {
  return typeof target === 'string' && URL.canParse(target) ? new URL(target) : target
}

function checkKey(key: unknown): string {
  if (key === undefined || key === null) return ''
  if (typeof key === 'string' || typeof key === 'number') return String(key)
  throw new TypeError(`sticky.key: expected the function to return a string or undefined, got ${typeof key}`)
}

function soonest(members: readonly Member[], now: number): Member[] {
  return [...members].sort((a, b) => a.health.dueAt(now) - b.health.dueAt(now)).slice(0, 1)
}

function without(url: string | undefined, candidates: readonly Member[]): readonly Member[] {
  if (url === undefined) return candidates
  const others = candidates.filter((member) => member.url !== url)
  return others.length > 0 ? others : candidates
}
