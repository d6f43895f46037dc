import assert from 'node:assert/strict'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { test } from 'node:test'
import fc from 'fast-check'
import { Abort } from '../../src/abort.ts'
import { Admission } from '../../src/admission.ts'
import type { SharedBytes } from '../../src/http-chunks.ts'
import { Meter } from '../../src/observe/meter.ts'
import { Stats } from '../../src/observe/stats.ts'
import type { SseProxyOptions } from '../../src/options/options.ts'
import { type ResolvedOptions, resolveOptions } from '../../src/options/resolve-options.ts'
import type { SharingRequest } from '../../src/share/opening.ts'
import { SharedStreams } from '../../src/share/shared-streams.ts'
import type { EventFlow } from '../../src/stream/event-flow.ts'
import type { Session } from '../../src/stream/session.ts'
import type {
  BodySink,
  OpenRequest,
  OpenUpstream,
  UpstreamBody,
  UpstreamResponse,
} from '../../src/upstream-response.ts'

// Users come and go at random while an upstream answers at random. Each answer names whom it is for, so that whoever
// gets what is not theirs is found out.

type Share = Exclude<NonNullable<SseProxyOptions['share']>, boolean>

interface Person {
  readonly token: number
  readonly tenant: number
  readonly path: number
  readonly id: number
  /** GET where it is absent. */
  readonly method?: 'GET' | 'POST' | 'DELETE'
  /** Whether its whole body is there; it is where this is absent. */
  readonly isSent?: boolean
}

type How = 'stream' | 'json' | 'large' | 'endless' | 'fail'

type Step =
  | { readonly do: 'come'; readonly who: Person }
  | { readonly do: 'leave'; readonly which: number }
  | { readonly do: 'answer'; readonly which: number; readonly how: How }
  | { readonly do: 'event'; readonly which: number }
  | { readonly do: 'end'; readonly which: number; readonly how: 'clean' | 'broken' }

const small = fc.integer({ min: 0, max: 1 })
const which = fc.integer({ min: 0, max: 20 })
const person = fc.record({ token: small, tenant: small, path: small, id: fc.integer({ min: 0, max: 2 }) })
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: person.map((who) => ({ do: 'come' as const, who })) },
  { weight: 2, arbitrary: which.map((number) => ({ do: 'leave' as const, which: number })) },
  {
    weight: 3,
    arbitrary: fc
      .tuple(which, fc.constantFrom<How>('stream', 'stream', 'json', 'large', 'endless', 'fail'))
      .map(([number, how]) => ({ do: 'answer' as const, which: number, how })),
  },
  { weight: 3, arbitrary: which.map((number) => ({ do: 'event' as const, which: number })) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(which, fc.constantFrom('clean' as const, 'broken' as const))
      .map(([number, how]) => ({ do: 'end' as const, which: number, how })),
  },
)

for (const ids of ['upstream', 'assign'] as const) {
  for (const vary of ['X-Tenant', '*']) {
    test(`nobody ever gets what is another's, and nothing is left when all have gone: Vary: ${vary}, ids '${ids}'`, async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
          const world = new World(vary, { lingerMs: 0, replay: { ids } })
          for (const each of steps) {
            world.take(each)
            await turn()
          }
          world.check()

          // Whoever still waits is answered, and then everybody goes.
          for (let round = 0; round < 50 && world.unanswered.length > 0; round += 1) {
            for (const ask of world.unanswered) ask.answer('stream')
            await turn()
          }
          world.check()
          for (const visitor of world.visitors)
            assert.ok(visitor.isOver || visitor.got !== undefined, 'served by nobody')
          for (const visitor of world.visitors) visitor.leave()
          await turn()
          world.shares.close()
          await turn()

          assert.deepEqual(world.shares.stats, { streams: 0, clients: 0, unread: 0, kept: 0 })
          for (const ask of world.asks) assert.ok(ask.isOver, 'an upstream is left')
        }),
        { seed: 20_260_711, numRuns: 400 },
      )
    })
  }
}

const chatter = fc.record({
  token: small,
  tenant: fc.constant(0),
  path: small,
  id: fc.integer({ min: 0, max: 2 }),
  method: fc.constantFrom('GET' as const, 'GET' as const, 'POST' as const, 'POST' as const, 'DELETE' as const),
  isSent: fc.boolean(),
})
const chatStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: step.filter((each) => each.do !== 'come') },
  { weight: 1, arbitrary: chatter.map((who) => ({ do: 'come' as const, who })) },
)

for (const busy of ['refuse', 'join', 'replace'] as const) {
  test(`streams that outlive their readers: one a key, nobody else's, and nothing is left when all is closed: busy '${busy}'`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(chatStep, { maxLength: 60 }), async (steps) => {
        const world = new World('', {
          key: ({ url, headers }) => `${headers.authorization} ${url}`,
          open: ['POST'],
          join: ['GET'],
          stop: ['DELETE'],
          busy,
          lingerMs: Number.POSITIVE_INFINITY,
          keepEndedMs: 60_000,
          replay: { ids: 'assign', initial: 'all' },
        })
        for (const each of steps) {
          world.take(each)
          await turn()
          world.checkOneEach()
        }
        world.check()

        for (const visitor of world.visitors) visitor.leave()
        await turn()
        world.shares.close()
        await turn()

        assert.deepEqual(world.shares.stats, { streams: 0, clients: 0, unread: 0, kept: 0 })
        assert.equal(world.admission.inside, 0)
        for (const ask of world.asks) assert.ok(ask.isOver, 'an upstream is left')
      }),
      { seed: 20_261_127, numRuns: 400 },
    )
  })
}

const share: Share = { lingerMs: 0 }

test('a crowd that asks for the same has one upstream, however many come and go before it answers', async () => {
  const world = new World('X-Tenant', share)
  const who = { token: 0, tenant: 0, path: 0, id: 0 }
  for (let count = 0; count < 1000; count += 1) world.come(who)
  for (const visitor of world.visitors.slice(0, 999)) visitor.leave()

  assert.equal(world.asks.length, 1)
  assert.equal(world.asks[0]!.isOver, false)
  world.visitors[999]!.leave()
  assert.equal(world.asks[0]!.isOver, true)
})

test('a herd with ids of all kinds does not open an upstream for each', async () => {
  const world = new World('X-Tenant', share)

  for (let id = 1; id <= 1000; id += 1) world.come({ token: 0, tenant: 0, path: 0, id })

  assert.ok(world.asks.length <= 32, `${world.asks.length} upstreams`)
})

async function turn(): Promise<void> {
  for (let count = 0; count < 3; count += 1) await new Promise((resolve) => setImmediate(resolve))
}

class World {
  readonly vary: string
  readonly options: ResolvedOptions
  readonly shares: SharedStreams
  readonly admission: Admission
  readonly visitors: Visitor[] = []
  readonly asks: Ask[] = []

  constructor(vary: string, given: Share) {
    this.vary = vary
    const options = resolveOptions({
      target: 'http://localhost',
      keepalive: false,
      limits: { bodyBytes: 100 },
      share: given,
    })
    if (!options.share) throw new Error('not shared')
    this.options = options
    const stats = new Stats('test')
    const observer = {
      meter: (at: number) => new Meter(stats, at),
      joined() {},
      replayed() {},
      resuming() {},
      resumed() {},
      failed() {},
    }
    this.admission = new Admission(options.limits)
    let ids = 0
    this.shares = new SharedStreams({
      options,
      share: options.share,
      observer,
      admission: this.admission,
      moves: undefined,
      nextId: () => String(++ids),
    })
  }

  get unanswered(): Ask[] {
    return this.asks.filter(({ isAnswered, isOver }) => !isAnswered && !isOver)
  }

  take(each: Step): void {
    if (each.do === 'come') return this.come(each.who)
    if (each.do === 'leave')
      return pick(
        this.visitors.filter(({ isOver }) => !isOver),
        each.which,
      )?.leave()
    if (each.do === 'answer') return pick(this.unanswered, each.which)?.answer(each.how)
    const open = pick(
      this.asks.filter(({ isAnswered, isOver }) => isAnswered && !isOver),
      each.which,
    )
    if (each.do === 'event') open?.send()
    else open?.end(each.how)
  }

  come(who: Person): void {
    const visitor = new Visitor(this, who)
    this.visitors.push(visitor)
    try {
      if (!this.shares.serve(visitor)) visitor.alone()
    } catch (error) {
      visitor.refuse(error)
    }
  }

  /** No key has two streams, and none has been opened by who may not. */
  checkOneEach(): void {
    const open = this.asks.filter(({ isOver, isShared }) => !isOver && isShared)
    const keys = open.map(({ asker: { who } }) => `${who.token} ${who.path}`)
    assert.equal(new Set(keys).size, keys.length)
    for (const { asker } of this.asks) assert.equal(asker.who.method, 'POST')
  }

  /** What each has got was meant for one like it. */
  check(): void {
    for (const { who, received } of this.visitors) {
      for (const meant of received) {
        assert.equal(meant.token, who.token)
        assert.equal(meant.path, who.path)
        assert.equal(meant.tenant, who.tenant)
        if (this.vary === '*') assert.equal(meant, who)
      }
    }
  }
}

class Visitor implements SharingRequest {
  readonly world: World
  readonly who: Person
  readonly req: IncomingMessage
  readonly res = { closed: true } as ServerResponse
  readonly client = undefined
  readonly wantsEvents = false
  readonly lastEventId: string
  isOver = false
  got: 'stream' | 'answer' | 'refusal' | undefined
  readonly received: Person[] = []
  #stop: (() => void) | undefined

  constructor(world: World, who: Person) {
    this.world = world
    this.who = who
    const headers = {
      host: 'localhost',
      authorization: `Bearer ${who.token}`,
      'x-tenant': String(who.tenant),
    }
    this.isSent = who.isSent ?? true
    this.lastEventId = who.id > 0 ? String(who.id) : ''
    this.req = {
      method: who.method ?? 'GET',
      url: `/${who.path}`,
      headers,
      rawHeaders: [],
    } as unknown as IncomingMessage
  }

  readonly isSent: boolean

  admit(): void {}

  inContext<Result>(work: () => Result): Result {
    return work()
  }

  forget(): void {}

  nothing(): void {
    this.isOver = true
  }

  leave(): void {
    if (this.isOver) return
    this.isOver = true
    this.world.shares.leave(this)
    this.#stop?.()
  }

  open(): OpenUpstream {
    return (request) => new Promise((resolve, reject) => this.world.asks.push(new Ask(this, request, resolve, reject)))
  }

  alone(): void {
    void this.open()({ signal: this.#ownSignal() }).then(
      (response) => this.answer(response),
      (error) => this.refuse(error),
    )
    this.world.asks[this.world.asks.length - 1]!.isShared = false
  }

  answer({ body }: UpstreamResponse): void {
    this.got = 'answer'
    this.#stop = () => body.destroy()
    if (this.isOver) return body.destroy()
    body.start({
      onData: (chunk) => this.#read(chunk),
      onEnd: () => this.#over(),
      onBroken: () => this.#over(),
    })
  }

  refuse(_error: unknown): void {
    this.got = 'refusal'
    this.isOver = true
  }

  session(): Session {
    const over = (): void => this.#over()
    const session = {
      isOver: false,
      handle: {},
      context: {
        lastEventId: this.lastEventId,
        writer: { isBehind: false, waitingBytes: 0 },
        options: this.world.options,
      },
      tell: (_path: string, call: () => void) => call(),
      start: (_head: unknown, flow: EventFlow) => {
        this.got = 'stream'
        this.#stop = () => flow.stop()
        flow.start()
        flow.release()
      },
      onReceived() {},
      onEvents: (pieces: readonly Buffer[]) => this.#read(Buffer.concat(pieces)),
      onShared: ({ bytes }: SharedBytes) => this.#read(bytes),
      onEnd: over,
      end: over,
      abort: over,
    }
    return session as unknown as Session
  }

  #ownSignal(): OpenRequest['signal'] {
    const controller = new Abort()
    this.#stop = () => controller.abort('over')
    return controller
  }

  #read(bytes: Buffer): void {
    for (const [, text = ''] of bytes.toString().matchAll(/<(\d+)>/g)) {
      this.received.push(this.world.asks[Number(text)]!.asker.who)
    }
  }

  #over(): void {
    this.isOver = true
  }
}

/** One request to the upstream. What it sends bears its number. */
class Ask implements UpstreamBody {
  readonly asker: Visitor
  readonly number: number
  readonly #resolve: (response: UpstreamResponse) => void
  readonly #reject: (error: Error) => void
  isAnswered = false
  isOver = false
  /** Whether others may follow what it brings, as far as is known. */
  isShared = true
  #sink: BodySink | undefined
  #early: ((sink: BodySink) => void)[] = []

  constructor(
    asker: Visitor,
    { signal }: OpenRequest,
    resolve: (response: UpstreamResponse) => void,
    reject: (error: Error) => void,
  ) {
    this.asker = asker
    this.number = asker.world.asks.length
    this.#resolve = resolve
    this.#reject = reject
    signal.onAbort(() => {
      if (this.isAnswered) return
      this.isOver = true
      reject(new Error('given up'))
    })
  }

  answer(how: How): void {
    this.isAnswered = true
    this.isShared &&= how === 'stream'
    if (how === 'fail') {
      this.isOver = true
      return this.#reject(new Error('refused'))
    }
    const type = how === 'stream' ? 'text/event-stream' : 'application/json'
    const text = `<${this.number}>`.padEnd(how === 'large' ? 200 : 0)
    const hasLength = how === 'json' || how === 'large'
    this.#resolve({
      status: 200,
      statusMessage: '',
      headers: [
        ['Content-Type', type],
        ['Vary', this.asker.world.vary],
        ...(hasLength ? [['Content-Length', String(text.length)] as const] : []),
      ],
      upstream: 'http://localhost',
      body: this,
      delimited: true,
    })
    if (how === 'stream') return
    this.#give((sink) => sink.onData(Buffer.from(text)))
    if (how === 'json') this.end('clean')
  }

  send(): void {
    this.#give((sink) => sink.onData(Buffer.from(`id: ${this.number}\ndata: <${this.number}>\n\n`)))
  }

  end(how: 'clean' | 'broken'): void {
    this.isOver = true
    this.#give((sink) => (how === 'clean' ? sink.onEnd() : sink.onBroken(new Error('lost'))))
  }

  start(sink: BodySink): void {
    this.#sink = sink
    for (const give of this.#early.splice(0)) give(sink)
  }

  pause(): void {}

  unpause(): void {}

  destroy(): void {
    this.isOver = true
    this.#sink = undefined
  }

  #give(give: (sink: BodySink) => void): void {
    if (this.#sink) give(this.#sink)
    else this.#early.push(give)
  }
}

function pick<T>(items: readonly T[], number: number): T | undefined {
  return items.length === 0 ? undefined : items[number % items.length]
}
