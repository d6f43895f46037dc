// Streams that begin and end, in the world of simulation.ts: requests with a body, which are sent once, and GETs, which join
// what runs or has ended and is kept. Requests come to all nodes, again and again, while everything goes wrong.
import assert from 'node:assert/strict'
import type { LogEntry } from '../../../src/share/event-log.ts'
import type { LocalOutcome } from '../../../src/share/nodes/entries.ts'
import type { LocalStream } from '../../../src/share/nodes/local-stream.ts'
import { Member, type MemberOptions } from '../../../src/share/nodes/member.ts'
import { stopRun } from '../../../src/share/nodes/stop-run.ts'
import { below, oneOf } from '../../support/seeded.ts'
import { bufferBytes, checkMs, disturb, type Faults, key, leaseMs, Machine, timeoutMs, World } from './simulation.ts'

const eventMs = 60
// Events of one run have numbers from a multiple of this on.
const RUN = 1000
const QUIET_EVENTS: readonly string[] = ['leave']

/** What comes to the nodes, and how they answer it. */
export interface Requests extends Faults {
  /** 'join' is a GET that may not open. */
  readonly requests: readonly ('GET' | 'POST' | 'join')[]
  readonly busy: MemberOptions['busy']
  readonly keepEndedMs: number
  readonly lingerMs: number
  /** Whether the app stops streams. */
  readonly stops?: boolean
}

export class Runs extends World {
  readonly requests: Requests
  readonly hosts: Host[] = []
  readonly visitors: Visitor[] = []
  readonly all: Run[] = []
  readonly open = new Set<Connection>()
  /** Nothing happens that a stream could be lost by. */
  readonly isCalm: boolean
  isStopped = false
  isEntering = true
  // What a GET gets that comes without an id.
  #job: Run | undefined

  constructor(seed: number, requests: Requests) {
    super(seed, requests)
    this.requests = requests
    this.isCalm = requests.calls === 0 && requests.events.every((event) => QUIET_EVENTS.includes(event))
  }

  /** When what is wrong was seen. */
  must(holds: boolean, text: string): void {
    if (!holds) this.wrong ??= `${text} (${((this.now - 1_800_000_000_000) / 1000).toFixed(3)})`
  }

  begin(): Run {
    const run = new Run(this, this.all.length)
    this.all.push(run)
    return run
  }

  get job(): Run {
    if (this.#job === undefined || this.#job.isOver) this.#job = this.begin()
    return this.#job
  }

  runOf(number: number): Run {
    return this.all[Math.floor(number / RUN)] ?? assert.fail(`there is no run with the event ${number}`)
  }
}

/** What an upstream brings for one request, or for all that ask for the same. */
class Run {
  readonly first: number
  latest: number
  isOver = false
  /** When it was read last by a node that reaches the store. */
  seenAt: number
  readonly #world: Runs
  readonly #end: number

  constructor(world: Runs, index: number) {
    this.#world = world
    this.first = index * RUN + 1
    this.latest = this.first - 1
    this.#end = this.first + 3 + below(world.chance, 50)
    this.seenAt = world.now
    this.#next()
  }

  #next(): void {
    this.#world.after(this.#world.between(eventMs / 4, (eventMs * 7) / 4), () => {
      this.latest++
      this.isOver = this.latest === this.#end
      for (const connection of [...this.#world.open]) if (connection.run === this) connection.send()
      if (!this.isOver) this.#next()
    })
  }
}

class Connection {
  readonly run: Run
  readonly #visitor: Visitor
  readonly #world: Runs
  #next: number
  #isOpen = false
  #isEnded = false

  constructor(visitor: Visitor, run: Run, next: number) {
    const { world, host } = visitor
    this.run = run
    this.#visitor = visitor
    this.#world = world
    this.#next = next
    world.open.add(this)
    host.later(world.between(1, 80), () => {
      if (!world.open.has(this)) return
      this.#isOpen = true
      visitor.member?.opened({ statusMessage: 'OK', headers: [], idBefore: '' })
      this.send()
    })
  }

  send(): void {
    const { run } = this
    const world = this.#world
    const { host } = this.#visitor
    if (host.isHeard) run.seenAt = world.now
    if (!this.#isOpen || this.#isEnded) return
    const isEnd = run.isOver
    this.#isEnded = isEnd
    const numbers: number[] = []
    while (this.#next <= run.latest) numbers.push(this.#next++)
    host.later(1, () => {
      if (!world.open.has(this)) return
      const { member } = this.#visitor
      const { hasIds } = world.faults
      const blocks = numbers.map((number): LogEntry => {
        return { bytes: Buffer.from(`data: ${number}\n\n`), id: hasIds ? `${number}` : undefined, isEvent: true }
      })
      if (blocks.length > 0) member?.received(blocks, hasIds ? `${numbers.at(-1)}` : '')
      if (!isEnd) return
      this.#visitor.disconnect()
      member?.upstreamOver('ended')
    })
  }
}

class Host extends Machine {
  override readonly world: Runs
  visitor: Visitor | undefined
  #asleepUntil = 0

  constructor(world: Runs, index: number) {
    super(world, index)
    this.world = world
  }

  /** Whether the others hear of it. */
  get isHeard(): boolean {
    const { engine, now } = this.world
    return engine.isUp && now >= engine.startsUntil && !this.isCutOff && !this.isDead && now >= this.#asleepUntil
  }

  override get member(): Member | undefined {
    return this.visitor?.member
  }

  override want(isWanted: boolean): void {
    if (this.visitor) this.visitor.isWanted = isWanted && !this.visitor.isDrained
    this.member?.want(isWanted)
  }

  override drain(ms: number): void {
    if (this.visitor) this.visitor.isDrained = true
    super.drain(ms)
  }

  override leave(ms: number): void {
    this.world.note(`${this.name}'s clients leave`)
    this.want(false)
    this.world.after(ms, () => {
      if (this.visitor?.outcome !== undefined) return
      if (this.visitor) this.visitor.wantedAt = this.world.now
      this.want(true)
    })
  }

  override sleep(ms: number): void {
    this.#asleepUntil = Math.max(this.#asleepUntil, this.world.now + ms)
    super.sleep(ms)
  }

  override disconnect(): void {
    for (const visitor of this.world.visitors) {
      if (visitor.host !== this) continue
      visitor.disconnect()
      visitor.isGone = true
    }
    this.visitor = undefined
  }

  /** A request comes, as `StoredStreams` lets it in. */
  override enter(): void {
    const { world, visitor } = this
    const { requests, busy, onDown } = world.requests
    if (this.isDead || !world.isEntering) return
    if (this.node.isUp === false && onDown === 'refuse') return
    const kind = oneOf(world.chance, requests)
    if (visitor?.outcome === undefined && visitor) {
      if (kind !== 'POST' || busy !== 'replace') return
      visitor.isReplaced = true
      visitor.member?.end('replaced')
    }
    this.visitor = new Visitor(this, kind)
  }

  /** Requests come, and go on coming. */
  start(): void {
    this.world.after(this.world.between(50, 1200), () => {
      // A machine that sleeps takes none.
      this.later(0, () => this.enter())
      if (this.world.isEntering) this.start()
    })
  }

  stop(): void {
    if (!this.node.isUp || this.isDead) return
    this.world.note(`${this.name} stops the stream`)
    this.world.isStopped = true
    stopRun(this.node, key).catch(() => {})
  }
}

/** The clients of one member. */
class Visitor implements LocalStream {
  readonly host: Host
  readonly world: Runs
  readonly name: string
  readonly kind: Requests['requests'][number]
  readonly cameAt: number
  member: Member | undefined
  isWanted = true
  isDrained = false
  wantedAt = 0
  isReplaced = false
  /** Its process has died. */
  isGone = false
  isReady = false
  outcome: LocalOutcome | undefined
  #connection: Connection | undefined
  #asked = 0
  #last: number | undefined
  #isTold = false
  #wasTold = false

  constructor(host: Host, kind: Visitor['kind']) {
    const { world } = host
    this.host = host
    this.world = world
    this.kind = kind
    this.cameAt = world.now
    this.name = `${host.name}'s ${kind} ${world.visitors.push(this)}`
    const { keptEvents = 400, busy, keepEndedMs, lingerMs } = world.requests
    world.note(`${this.name} comes`)
    this.member = new Member(
      host.node,
      {
        key,
        mayOpen: kind !== 'join',
        joinsEnded: kind !== 'POST',
        busy: kind === 'POST' ? busy : 'join',
        isReopenable: kind !== 'POST',
        bounds: { events: keptEvents, bytes: 20_000 },
        bufferBytes,
        keepEndedMs,
        lingerMs,
      },
      this,
    )
  }

  #must(holds: boolean, text: string): void {
    this.world.must(holds, `${this.name}: ${text}`)
  }

  open(cursor: string): void {
    const { world, kind, host } = this
    world.note(`${this.name} opens after '${cursor}'`)
    this.#must(kind !== 'join', 'asks the upstream, although it may only join')
    this.#must(kind === 'GET' || this.#asked === 0, 'is sent again')
    this.#must(world.faults.onDown !== 'refuse' || host.node.isUp === true, 'asks while the store is away')
    this.#must(this.#connection === undefined, 'has an upstream already')
    const { busy, events } = world.requests
    const mayBeTwo =
      busy === 'replace' || kind === 'GET' || world.requests.calls > 0 || events.some((e) => e !== 'kill')
    if (!mayBeTwo) this.#must(world.open.size === 0, 'is sent while another one runs')
    this.#asked++
    if (kind === 'POST') {
      const run = world.begin()
      this.#connection = new Connection(this, run, run.first)
    } else if (cursor !== '') {
      this.#connection = new Connection(this, world.runOf(Number(cursor)), Number(cursor) + 1)
    } else {
      const { job } = world
      this.#connection = new Connection(this, job, world.faults.hasIds ? job.first : job.latest + 1)
    }
  }

  close(): void {
    this.world.note(`${this.name} closes its upstream`)
    this.disconnect()
  }

  disconnect(): void {
    if (this.#connection) this.world.open.delete(this.#connection)
    this.#connection = undefined
  }

  pause(): void {}
  unpause(): void {}

  begin(): void {
    this.#must(!this.isReady, 'has clients, and a run begins')
    this.#last = undefined
    this.#isTold = false
  }

  ready(): void {
    this.world.note(`${this.name} ready`)
    this.#must(!this.isReady, 'is ready twice')
    this.isReady = true
  }

  deliver(blocks: readonly LogEntry[]): void {
    this.#must(this.outcome === undefined, 'delivers after the end')
    for (const { bytes } of blocks) this.#onEvent(Number(/\d+/.exec(bytes.toString())))
    this.#must((this.member?.bytes ?? 0) < bufferBytes * 12, `holds ${this.member?.bytes} bytes`)
  }

  #onEvent(number: number): void {
    const { world } = this
    const run = world.runOf(number)
    const last = this.#last
    const isTold = this.#isTold
    this.#last = number
    this.#isTold = false
    // Without ids a GET begins with what comes next, and what a store has lost may be more than nodes remember.
    const { requests, events } = world.requests
    const isGet = requests.includes('GET')
    const isPart = isGet && !world.faults.hasIds
    const mayBeLost = isGet && events.some((event) => event === 'restart' || event === 'failover')
    if (last === undefined) {
      return this.#must(number === run.first || isTold || isPart || mayBeLost, `${number} is the first`)
    }
    if (world.runOf(last) === run) {
      this.#must(
        number === last + 1 || (isTold && (number > last || isPart || !world.faults.hasIds)),
        `${number} came after ${last}`,
      )
    } else {
      const mayBe = isGet && isTold && (number > last || isPart || mayBeLost)
      this.#must(mayBe, `${number} came after ${last}, of another run`)
    }
  }

  gap(): void {
    this.world.note(`${this.name} told of a gap after ${this.#last}`)
    this.#isTold = this.#wasTold = true
  }

  over(outcome: LocalOutcome): void {
    const { world } = this
    world.note(`${this.name} over: ${outcome}`)
    this.outcome = outcome
    this.#must(this.#mayBe(outcome), `is told '${outcome}' after ${this.#last}`)
  }

  #mayBe(outcome: LocalOutcome): boolean {
    const { world, kind, isReady } = this
    const { busy } = world.requests
    switch (outcome) {
      case 'ended': {
        const run = this.#last === undefined ? undefined : world.runOf(this.#last)
        const isAll = run?.isOver && this.#last === run.latest
        return isReady && (isAll || this.#isTold || (!world.faults.hasIds && this.#wasTold))
      }
      case 'lost':
        // Who comes at the last moment may not hear how it ended.
        return !world.isCalm || world.faults.doorbells > 0 || (!isReady && kind === 'join')
      case 'left':
        // One that came back at the last moment, or whose node was taken for dead, is broken off.
        return (
          !world.isCalm ||
          !this.isWanted ||
          !isReady ||
          world.now - Math.max(this.wantedAt, this.cameAt) < 2 * timeoutMs
        )
      case 'replaced':
        return this.isReplaced || busy === 'replace' || !isReady
      case 'stopped':
        return world.isStopped
      case 'none':
        return kind === 'join' && !(world.isCalm && this.#hasMissed())
      case 'busy':
        return kind === 'POST' && busy === 'refuse' && this.#isBusy()
      default:
        return false
    }
  }

  /** Whether something ran that it should have joined. */
  #hasMissed(): boolean {
    const { world, cameAt } = this
    return world.visitors.some(({ isReady, isWanted, outcome, cameAt: at, host }) => {
      return isReady && isWanted && outcome === undefined && at < cameAt - 2000 && host !== this.host
    })
  }

  /** Whether something runs, or has run until shortly before. */
  #isBusy(): boolean {
    const { now, all, requests } = this.world
    // A store that was away knows less.
    if (requests.calls > 0 || requests.events.some((event) => !['leave', 'kill', 'drain'].includes(event))) return true
    return all.some(({ seenAt }) => seenAt > now - (leaseMs * 4) / 3 - 4 * timeoutMs)
  }
}

/** One run of the model; throws where a promise is broken. */
export async function simulateRuns(seed: number, requests: Requests): Promise<World> {
  const world = new Runs(seed, requests)
  const { chance, engine } = world
  try {
    const count = 2 + below(chance, 3)
    for (let i = 0; i < count; i++) {
      const host = new Host(world, i)
      world.nodes.push(host)
      world.hosts.push(host)
      host.start()
    }
    for (let i = 0, at = 600; i < 6 && requests.events.length > 0; i++) {
      at += world.between(0, 1500)
      world.after(at, () => disturb(world, oneOf(chance, requests.events)))
    }
    for (let i = 0; i < (requests.stops ? 3 : 0); i++) {
      world.after(world.between(500, 7000), () => oneOf(chance, world.hosts).stop())
    }
    await world.pass(8000)
    assert.ok(world.wrong === undefined, world.wrong)

    // From here on nothing goes wrong any more, and what there is ends.
    world.isFaulty = world.isEntering = false
    engine.isUp = true
    for (const host of world.hosts) host.isCutOff = false
    await world.pass(12_000 + 4 * checkMs)
    assert.ok(world.wrong === undefined, world.wrong)
    for (const { name, isGone, member, outcome } of world.visitors) {
      assert.ok(isGone || (member?.isOver && outcome !== undefined), `${name} is not over`)
    }
    assert.equal(world.open.size, 0, 'upstreams that are still open')
    assert.equal(engine.bells.size, 0, 'doorbells that are left')
    await world.pass(requests.keepEndedMs + 2 * checkMs + 3000)
    // What a node leaves that has died, or took the key late, when nobody waited any more, the next request replaces.
    const [left] = await engine.store.look([key])
    const isDead = left && !world.hosts.some(({ name }) => name === left.owner)
    assert.ok(!left || isDead || (requests.calls > 0 && left.last.seq === 0), 'a log that is left')
    return world
  } catch (error) {
    if (error instanceof Error) {
      error.message += `\nseed ${seed}, ${JSON.stringify(requests)}\n${world.trace.join('\n')}`
    }
    throw error
  }
}
