// Nodes, a store, an upstream and clients in one process, with a time of their own: the same seed gives the same run. Calls
// are lost, late or lose their answer; doorbells are lost, late or doubled; nodes sleep, die and come back; the store is
// away, restarts without data, or loses the latest of what it had.
import assert from 'node:assert/strict'
import type { LogEntry } from '../../../src/share/event-log.ts'
import { MemoryStore } from '../../../src/share/memory-store.ts'
import { decodeEntry, type LocalOutcome } from '../../../src/share/nodes/entries.ts'
import type { LocalStream } from '../../../src/share/nodes/local-stream.ts'
import { Member } from '../../../src/share/nodes/member.ts'
import { StoreNode } from '../../../src/share/nodes/node.ts'
import type {
  Added,
  Addition,
  Claim,
  Doorbell,
  KeyState,
  Page,
  Position,
  ShareStore,
  StoredEntry,
} from '../../../src/share-store.ts'
import { below, type Chance, oneOf, seeded } from '../../support/seeded.ts'

export const key = 'key'
export const leaseMs = 900
export const checkMs = 3000
export const timeoutMs = 300
export const bufferBytes = 2000
const eventMs = 60

/** What may go wrong in a run, each from 0 (never) up to 1. */
export interface Faults {
  calls: number
  doorbells: number
  events: readonly ('sleep' | 'kill' | 'drain' | 'leave' | 'partition' | 'outage' | 'restart' | 'failover')[]
  hasIds: boolean
  /** How many events the log keeps. */
  keptEvents?: number
  onDown?: 'refuse'
}

export class World {
  readonly chance: Chance
  readonly faults: Faults
  now = 1_800_000_000_000
  isFaulty = true
  readonly engine: Engine
  readonly nodes: Machine[] = []
  readonly upstream: Upstream
  readonly #queue: { at: number; order: number; callback: () => void }[] = []
  #order = 0
  readonly trace: string[] = []
  /** What went wrong where nobody could be told. */
  wrong: string | undefined

  constructor(seed: number, faults: Faults) {
    this.chance = seeded(seed)
    this.faults = faults
    this.engine = new Engine(this)
    this.upstream = new Upstream(this, faults.hasIds)
  }

  note(text: string): void {
    this.trace.push(`${((this.now - 1_800_000_000_000) / 1000).toFixed(3)} ${text}`)
  }

  after(ms: number, callback: () => void): () => void {
    const entry = { at: this.now + ms, order: this.#order++, callback }
    // A binary heap would be faster for many; there are few.
    let low = 0
    let high = this.#queue.length
    while (low < high) {
      const middle = (low + high) >> 1
      const other = this.#queue[middle]
      if (other && (other.at > entry.at || (other.at === entry.at && other.order > entry.order))) low = middle + 1
      else high = middle
    }
    this.#queue.splice(low, 0, entry)
    return () => {
      entry.callback = () => {}
    }
  }

  async pass(ms: number): Promise<void> {
    const end = this.now + ms
    for (let next = this.#queue.at(-1); next && next.at <= end; next = this.#queue.at(-1)) {
      this.#queue.pop()
      this.now = next.at
      next.callback()
      // Every promise that this has settled is followed to its end.
      for (let turns = 0; turns < 24; turns++) await null
    }
    this.now = end
  }

  between(low: number, high: number): number {
    return low + this.chance() * (high - low)
  }

  happens(probability: number): boolean {
    return this.isFaulty && this.chance() < probability
  }
}

interface Bell {
  readonly node: Machine
  readonly doorbell: Doorbell
  stop: (() => void) | undefined
}

/** The store's server: what it has done is kept, so that it can come back without the latest of it. */
export class Engine {
  readonly world: World
  isUp = true
  startsUntil = 0
  store: MemoryStore
  readonly bells = new Set<Bell>()
  readonly owners = new Map<number, string>()
  #journal: { at: number; redo: (store: MemoryStore) => void }[] = []
  #clock: number | undefined

  constructor(world: World) {
    this.world = world
    this.store = this.#create()
  }

  #create(): MemoryStore {
    return new MemoryStore({ leaseMs, checkMs }, () => this.#clock ?? this.world.now)
  }

  record(redo: (store: MemoryStore) => void): void {
    this.#journal.push({ at: this.world.now, redo })
  }

  /** Comes back with what it had until this long ago; all subscriptions are made anew after a while. */
  restart(lostMs: number): void {
    const until = this.world.now - lostMs
    this.#journal = this.#journal.filter(({ at }) => at <= until)
    for (const bell of this.bells) {
      bell.stop?.()
      bell.stop = undefined
    }
    this.store = this.#create()
    for (const { at, redo } of this.#journal) {
      this.#clock = at
      redo(this.store)
    }
    this.#clock = undefined
    // It takes its time: no fence is given twice in the same millisecond.
    this.startsUntil = this.world.now + 10
    for (const bell of this.bells) {
      this.world.after(this.world.between(1, 100), () => {
        if (this.bells.has(bell)) void this.subscribe(bell)
      })
    }
  }

  async subscribe(bell: Bell): Promise<void> {
    if (bell.stop) return
    const { store } = this
    const stop = await store.follow(key, bell.node.name, {
      onEntries: (entries) => this.#ring(bell, () => bell.doorbell.onEntries(entries)),
      onChanged: () => this.#ring(bell, () => bell.doorbell.onChanged()),
    })
    if (!this.bells.has(bell) || store !== this.store) return stop()
    bell.stop = stop
    this.#ring(bell, () => bell.doorbell.onChanged())
  }

  #ring({ node }: Bell, call: () => void): void {
    const { world } = this
    if (!this.isUp || world.happens(world.faults.doorbells) || node.isCutOff) return
    const late = world.happens(world.faults.doorbells) ? world.between(10, 500) : world.between(0, 2)
    node.later(late, call)
    if (world.happens(world.faults.doorbells)) node.later(late + world.between(0, 50), call)
  }

  /** At most one node appends under a fence. */
  checkOwner(fence: number, name: string): void {
    const owner = this.owners.get(fence) ?? name
    this.owners.set(fence, owner)
    if (owner !== name) this.world.wrong ??= `${name} has appended under the fence ${fence} of ${owner}`
  }
}

/** The way of one node to the store. */
class Wire implements ShareStore {
  readonly leaseMs = leaseMs
  readonly checkMs = checkMs
  readonly onDown: 'alone' | 'refuse'
  readonly secret = ''
  readonly #machine: Machine
  readonly #world: World

  constructor(machine: Machine) {
    this.#machine = machine
    this.#world = machine.world
    this.onDown = machine.world.faults.onDown ?? 'alone'
  }

  watch(onUp: (isUp: boolean) => void): () => void {
    onUp(true)
    return () => {}
  }

  #call<Result>(execute: (store: MemoryStore) => Promise<Result>, isJournaled = false): Promise<Result> {
    const world = this.#world
    const machine = this.#machine
    const { engine } = world
    const { life } = machine
    return new Promise((resolve, reject) => {
      let isSettled = false
      machine.later(timeoutMs, () => {
        if (!isSettled) reject(new Error('no answer'))
        isSettled = true
      })
      if (world.happens(world.faults.calls)) return
      const late = world.happens(world.faults.calls) ? world.between(timeoutMs, 3 * timeoutMs) : world.between(0, 2)
      world.after(late, () => {
        if (!engine.isUp || world.now < engine.startsUntil || machine.isCutOff || machine.isDead) return
        if (isJournaled) engine.record((store) => void execute(store))
        void execute(engine.store).then((result) => {
          if (world.happens(world.faults.calls) || life !== machine.life) return
          machine.later(world.between(0, 2), () => {
            if (engine.isUp && !machine.isCutOff && !isSettled) {
              isSettled = true
              resolve(result)
            }
          })
        })
      })
    })
  }

  beat(node: string, forMs: number): Promise<boolean> {
    return this.#call((store) => store.beat(node, forMs), true)
  }

  areAlive(nodes: readonly string[]): Promise<readonly boolean[]> {
    return this.#call((store) => store.areAlive(nodes))
  }

  async take(name: string, claim: Claim): Promise<Added> {
    const added = await this.#call(async (store) => {
      const result = await store.take(name, claim)
      if (!result.isRefused && store === this.#world.engine.store) {
        this.#world.engine.checkOwner(result.fence, claim.node)
      }
      return result
    }, true)
    if (!added.isRefused) this.#world.note(`${claim.node} has taken the key: ${added.fence % 1_000_000}`)
    return added
  }

  async append(name: string, addition: Addition): Promise<Added> {
    const machine = this.#machine
    const owner = machine.name
    const added = await this.#call(async (store) => {
      const result = await store.append(name, addition)
      const [first] = addition.entries
      if (!result.isRefused && first && store === this.#world.engine.store) {
        this.#world.engine.checkOwner(first.position.fence, owner)
      }
      return result
    }, true)
    if (!added.isRefused) this.#world.note(`${owner} has added ${addition.entries.map(shown).join(', ')}`)
    return added
  }

  look(keys: readonly string[]): Promise<readonly (KeyState | undefined)[]> {
    return this.#call((store) => store.look(keys))
  }

  read(name: string, after: Position | undefined, maxBytes: number): Promise<Page> {
    return this.#call((store) => store.read(name, after, Math.min(maxBytes, 3000)))
  }

  async follow(_key: string, _node: string, doorbell: Doorbell): Promise<() => void> {
    const { engine } = this.#world
    const bell: Bell = { node: this.#machine, doorbell, stop: undefined }
    const { life } = this.#machine
    let isGivenUp = false
    const unfollow = (): void => {
      isGivenUp = true
      engine.bells.delete(bell)
      bell.stop?.()
    }
    try {
      await this.#call(async () => {
        if (isGivenUp || life !== this.#machine.life) return
        engine.bells.add(bell)
        await engine.subscribe(bell)
      })
    } catch (error) {
      unfollow()
      throw error
    }
    return unfollow
  }

  followers(name: string): Promise<readonly string[]> {
    return this.#call((store) => store.followers(name))
  }

  takePlace(): Promise<boolean> {
    return Promise.resolve(true)
  }

  freePlace(): Promise<void> {
    return Promise.resolve()
  }
}

/** An entry, for those who read a trace. */
function shown({ position: { fence, seq }, bytes }: StoredEntry): string {
  const entry = decodeEntry(bytes)
  const at = `${fence % 1_000_000}-${seq}`
  switch (entry.kind) {
    case 'events':
      return `${at} ${entry.blocks.map(({ bytes }) => bytes.toString('latin1', 6).trim())}`
    case 'opened': {
      const follows = entry.follows && `${entry.follows.fence % 1_000_000}-${entry.follows.seq}`
      return `${at} opened behind ${follows}${entry.hasGap ? ' with a hole' : ''}`
    }
    default:
      return `${at} ${entry.kind}`
  }
}

/** One feed of numbered events, which can be asked for from any number on where it has ids. */
export class Upstream {
  readonly world: World
  readonly hasIds: boolean
  readonly open = new Set<Connection>()
  latest = 0
  hasEnded = false

  constructor(world: World, hasIds: boolean) {
    this.world = world
    this.hasIds = hasIds
  }

  start(): void {
    const next = (): void => {
      if (this.hasEnded) return
      this.latest++
      for (const connection of this.open) connection.send()
      this.world.after(this.world.between(eventMs / 4, (eventMs * 7) / 4), next)
    }
    next()
  }

  end(): void {
    this.hasEnded = true
    for (const connection of this.open) connection.send()
  }
}

class Connection {
  readonly #clients: Clients
  readonly #upstream: Upstream
  #next: number
  #isOpen = false
  #isEnded = false

  constructor(clients: Clients, cursor: string) {
    const { machine } = clients
    this.#clients = clients
    this.#upstream = machine.world.upstream
    this.#next = cursor === '' ? this.#upstream.latest + 1 : Number(cursor) + 1
    this.#upstream.open.add(this)
    machine.later(machine.world.between(1, 80), () => {
      if (!this.#upstream.open.has(this)) return
      this.#isOpen = true
      clients.member?.opened({ statusMessage: 'OK', headers: [], idBefore: cursor })
      this.send()
    })
  }

  send(): void {
    const { hasIds, latest, hasEnded } = this.#upstream
    if (!this.#isOpen || this.#isEnded) return
    this.#isEnded = hasEnded
    const numbers: number[] = []
    while (this.#next <= latest) numbers.push(this.#next++)
    this.#clients.machine.later(1, () => {
      if (!this.#upstream.open.has(this)) return
      const { member } = this.#clients
      if (numbers.length > 0) {
        member?.received(
          numbers.map((number) => eventOf(number, hasIds)),
          hasIds ? `${numbers.at(-1)}` : '',
        )
      }
      if (!hasEnded) return
      this.#clients.forget(this)
      member?.upstreamOver('ended')
    })
  }

  close(): void {
    this.#upstream.open.delete(this)
  }
}

function eventOf(number: number, hasIds: boolean): LogEntry {
  const id = hasIds ? `${number}` : undefined
  return { bytes: Buffer.from(`data: ${number}\n\n`), id, isEvent: true }
}

/** One process: a node, and its clients of the one key. */
export class Machine {
  readonly world: World
  name: string
  node: StoreNode
  isCutOff = false
  isDead = false
  #asleepUntil = 0
  #missed: (() => void)[] = []
  clients: Clients | undefined
  #lives = 0
  readonly #index: number

  constructor(world: World, index: number) {
    this.world = world
    this.#index = index
    this.name = `node${index}`
    this.node = this.#start()
  }

  #start(): StoreNode {
    const { world } = this
    this.name = `node${this.#index}.${this.#lives++}`
    const life = this.#lives
    return new StoreNode({
      name: this.name,
      store: new Wire(this),
      now: () => world.now,
      after: (ms, callback) => this.later(ms, () => life === this.#lives && callback()),
      chance: world.chance,
      onUp: (isUp) => world.note(`${this.name} ${isUp ? 'up' : 'down'}`),
    })
  }

  /** Which process this is, of those that were started one after the other. */
  get life(): number {
    return this.#lives
  }

  /** What happens on a machine that sleeps happens when it wakes. */
  later(ms: number, callback: () => void): () => void {
    const life = this.#lives
    let isCancelled = false
    const run = (): void => {
      if (isCancelled || life !== this.#lives || this.isDead) return
      if (this.#asleepUntil > this.world.now || this.#missed.length > 0) this.#missed.push(run)
      else callback()
    }
    this.world.after(ms, run)
    return () => {
      isCancelled = true
    }
  }

  enter(): void {
    if (this.clients && this.clients.outcome === undefined) return
    this.world.note(`${this.name} enters`)
    const clients = new Clients(this)
    this.clients = clients
    clients.member = new Member(
      this.node,
      {
        key,
        mayOpen: true,
        joinsEnded: true,
        busy: 'join',
        isReopenable: true,
        bounds: { events: this.world.faults.keptEvents ?? 400, bytes: 20_000 },
        bufferBytes,
        keepEndedMs: 0,
        lingerMs: 400,
      },
      clients,
    )
  }

  want(isWanted: boolean): void {
    if (this.clients) this.clients.isWanted = isWanted && !this.clients.isDrained
    this.member?.want(isWanted)
  }

  get member(): Member | undefined {
    return this.clients?.member
  }

  drain(ms: number): void {
    this.world.note(`${this.name} drains`)
    if (this.clients) this.clients.isDrained = true
    this.want(false)
    this.member?.handOver()
    this.world.after(ms, () => this.isDead || this.enter())
  }

  leave(ms: number): void {
    this.world.note(`${this.name}'s clients leave`)
    this.want(false)
    this.world.after(ms, () => {
      if (this.isDead) return
      if (this.clients?.outcome === undefined) this.want(true)
      else this.enter()
    })
  }

  /** What its clients have open goes with the process. */
  disconnect(): void {
    this.clients?.disconnect()
    this.clients = undefined
  }

  sleep(ms: number): void {
    this.world.note(`${this.name} sleeps for ${Math.round(ms)}`)
    this.#asleepUntil = Math.max(this.#asleepUntil, this.world.now + ms)
    this.world.after(ms, () => this.#wakeUp())
  }

  /** What has come meanwhile is read in its order, one thing a turn. */
  #wakeUp(): void {
    if (this.#asleepUntil > this.world.now) return
    const [first, ...others] = this.#missed
    this.#missed = []
    first?.()
    this.#missed = [...others, ...this.#missed]
    if (this.#missed.length > 0) this.world.after(0, () => this.#wakeUp())
  }

  /** SIGKILL; the process is started again after a while. */
  kill(ms: number): void {
    this.world.note(`${this.name} is killed`)
    this.#lives++
    this.isDead = true
    this.#missed = []
    this.#asleepUntil = 0
    for (const bell of this.world.engine.bells) {
      if (bell.node !== this) continue
      this.world.engine.bells.delete(bell)
      bell.stop?.()
    }
    this.disconnect()
    this.world.after(ms, () => {
      this.isDead = false
      this.node = this.#start()
      this.enter()
    })
  }
}

/** The stream of one member. */
export class Clients implements LocalStream {
  readonly machine: Machine
  readonly world: World
  member: Member | undefined
  #connection: Connection | undefined
  // What they have got.
  last: number | undefined
  isReady = false
  gaps = 0
  /** False while they have left, or their node is drained. */
  isWanted = true
  isDrained = false
  outcome: LocalOutcome | undefined
  #mayJump = true

  constructor(machine: Machine) {
    this.machine = machine
    this.world = machine.world
  }

  get name(): string {
    return this.machine.name
  }

  open(cursor: string): void {
    assert.equal(this.#connection, undefined, `${this.name} has an upstream already`)
    this.world.note(`${this.name} opens after '${cursor}'`)
    this.#connection = new Connection(this, cursor)
  }

  close(): void {
    this.world.note(`${this.name} closes its upstream`)
    this.disconnect()
  }

  disconnect(): void {
    this.#connection?.close()
    this.#connection = undefined
  }

  /** The connection has ended by itself. */
  forget(connection: Connection): void {
    connection.close()
    if (this.#connection === connection) this.#connection = undefined
  }

  pause(): void {}
  unpause(): void {}

  begin(): void {
    assert.equal(this.isReady, false, `${this.name} has clients, and a run begins`)
    this.last = undefined
    this.#mayJump = true
  }

  ready(): void {
    this.world.note(`${this.name} ready`)
    assert.equal(this.isReady, false)
    this.isReady = true
  }

  deliver(blocks: readonly LogEntry[]): void {
    const { world, name } = this
    // Told to the run as well: a member takes what is thrown here for a failure of the store.
    const must = (holds: boolean, text: string): void => {
      if (!holds) world.wrong ??= `${name}: ${text} (${((world.now - 1_800_000_000_000) / 1000).toFixed(3)})`
    }
    must(this.outcome === undefined, 'delivers after the end')
    for (const { bytes } of blocks) {
      const number = Number(/\d+/.exec(bytes.toString()))
      if (this.last !== undefined && !this.#mayJump) must(number === this.last + 1, `${number} came after ${this.last}`)
      else if (this.last !== undefined && world.upstream.hasIds)
        must(number > this.last, `${number} came again, after ${this.last}`)
      this.#mayJump = false
      this.last = number
    }
    const bytes = this.member?.bytes ?? 0
    must(bytes < bufferBytes * 12, `holds ${bytes} bytes`)
  }

  gap(): void {
    this.world.note(`${this.name} told of a gap after ${this.last}`)
    if (this.isReady) this.gaps++
    this.#mayJump = true
  }

  over(outcome: LocalOutcome): void {
    const { world, name } = this
    world.note(`${name} over: ${outcome}`)
    this.outcome = outcome
    const mayBe = outcome === 'ended' ? world.upstream.hasEnded : outcome === 'left' && !this.isWanted
    if (!mayBe) world.wrong ??= `${name}: clients are told '${outcome}'`
  }
}

/** One run; throws where a promise is broken. */
export async function simulate(seed: number, faults: Faults): Promise<World> {
  const world = new World(seed, faults)
  const { chance, engine, upstream } = world
  try {
    const count = 2 + below(chance, 3)
    for (let i = 0; i < count; i++) {
      const machine = new Machine(world, i)
      world.nodes.push(machine)
      world.after(world.between(0, 500), () => machine.enter())
    }
    upstream.start()
    for (let i = 0, at = 600; i < 6 && faults.events.length > 0; i++) {
      at += world.between(0, 1500)
      world.after(at, () => disturb(world, oneOf(chance, faults.events)))
    }
    await world.pass(7000)
    assert.equal(world.wrong, undefined)

    // From here on nothing goes wrong any more, and everybody catches up.
    world.isFaulty = false
    engine.isUp = true
    for (const machine of world.nodes) machine.isCutOff = false
    await world.pass(8000)
    for (const machine of world.nodes) if (!machine.isDead) machine.enter()
    await world.pass(8000)
    assert.equal(world.wrong, undefined)
    const endsByItself = chance() < 0.5
    for (const machine of world.nodes) {
      const { isReady, outcome, last } = machine.clients ?? {}
      assert.ok(isReady && outcome === undefined, `${machine.name} is not served`)
      const behind = upstream.latest - (last ?? 0)
      assert.ok(behind <= 3, `${machine.name} is ${behind} events behind`)
    }
    assert.equal(upstream.open.size, 1, 'upstreams that are open')
    assert.equal(world.nodes.filter(({ member }) => member?.isOwner).length, 1, 'owners')
    if (endsByItself) upstream.end()
    else for (const machine of world.nodes) machine.want(false)
    await world.pass(endsByItself ? 2 * checkMs + 3000 : checkMs + 3000)

    for (const { name, member, clients } of world.nodes) {
      assert.ok(member?.isOver, `${name} is not over`)
      if (endsByItself)
        assert.deepEqual([clients?.outcome, clients?.last], ['ended', upstream.latest], `${name} at the end`)
    }
    assert.equal(upstream.open.size, 0, 'upstreams that are still open')
    assert.equal(engine.bells.size, 0, 'doorbells that are left')
    assert.equal((await engine.store.look([key]))[0], undefined, 'a log that is left')
    return world
  } catch (error) {
    if (error instanceof Error) error.message += `\nseed ${seed}, ${JSON.stringify(faults)}\n${world.trace.join('\n')}`
    throw error
  }
}

export function disturb(world: World, what: Faults['events'][number]): void {
  const { engine, nodes, chance } = world
  const machine = oneOf(chance, nodes)
  const ms = world.between(10, 3000)
  if (machine.isDead) return
  switch (what) {
    case 'sleep':
      return machine.sleep(ms)
    case 'kill':
      return machine.kill(ms)
    case 'drain':
      return machine.drain(ms)
    case 'leave':
      return machine.leave(ms)
    case 'partition':
      world.note(`${machine.name} is cut off`)
      machine.isCutOff = true
      return void world.after(ms, () => {
        world.note(`${machine.name} is not cut off`)
        machine.isCutOff = false
      })
    case 'outage':
      world.note('the store is away')
      engine.isUp = false
      return void world.after(ms, () => {
        world.note('the store is back')
        engine.isUp = true
      })
    case 'restart':
      world.note('the store has lost everything')
      return engine.restart(Number.POSITIVE_INFINITY)
    case 'failover':
      world.note('the store has lost its latest')
      return engine.restart(world.between(1, 400))
  }
}
