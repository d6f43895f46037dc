// Holds many streams for a long time while clients come, leave and read slowly and upstreams die in every way, and
// tells what was lost, doubled, damaged, broken off or left behind. Exit code 1 when anything was.
//
//   npm run soak -- --seconds 600 --streams 5000
//
// Upstreams and clients are in this process, the proxy is in another one.
import { Agent, createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { ProxyStats } from 'sse-proxy-middleware'
import { type Child, startChild } from '../support/processes/child.ts'
import { NumberedReader, numberAfter, numberedEvent, type Tally } from '../support/processes/numbered-events.ts'
import type { Held } from '../support/processes/soaked-proxy.ts'
import { seeded } from '../support/seeded.ts'
import { until } from '../support/waiting.ts'

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '600' },
    streams: { type: 'string', default: '5000' },
    seed: { type: 'string', default: `${Date.now() % 1_000_000}` },
  },
})
const seconds = Number(values.seconds)
const streamCount = Number(values.streams)

/** A stream has an event so often. */
const eventEveryMs = 1000
/** A tenth of a second brings so many of each, for a thousand streams. */
const perTick = { leaves: 1, deaths: 1 }
const tickMs = 100
/** Slow readers are few, and have enough to read to fill what is between them and their upstream. */
const slowCount = 10
const slowScale = 400
const slowBurst = 40
const writeMs = 3000
/** What V8 and Node keep of their own accord. */
const allowedHeapBytes = 4 * 2 ** 20

/** The same choices for the same seed, as far as the network lets them fall on the same streams. */
const random = seeded(Number(values.seed))

const counts = { opened: 0, left: 0, ended: 0, slow: 0, broken: 0, refused: 0, deaths: 0, outages: 0, events: 0 }
const tally: Tally = { lost: 0, doubled: 0, damaged: 0 }

/** One upstream stream: numbers from where its client stands. */
class Feed {
  readonly #res: ServerResponse
  readonly #scale: number
  #next: number
  #isDying = false

  constructor(req: IncomingMessage, res: ServerResponse) {
    this.#res = res
    this.#scale = req.url?.includes('slow') ? slowScale : 1
    this.#next = numberAfter(req.headers['last-event-id'] as string | undefined)
    res.writeHead(200, { 'content-type': 'text/event-stream' })
    res.write(numberedEvent(this.#next++, this.#scale))
  }

  send(): void {
    const res = this.#res
    // What it said last may be half an event.
    if (this.#isDying) return
    for (let events = this.#scale === 1 ? 1 : slowBurst; events > 0; events -= 1) {
      if (res.writableEnded || res.writableLength > 2 ** 20) return
      res.write(numberedEvent(this.#next++, this.#scale))
    }
  }

  /** One of the ways in which an upstream goes. */
  die(): void {
    if (this.#isDying) return
    this.#isDying = true
    const { socket } = this.#res
    const half = numberedEvent(this.#next, this.#scale).slice(0, -10 - Math.floor(random() * 20))
    const way = Math.floor(random() * 6)
    if (way === 0) socket?.resetAndDestroy()
    else if (way === 1) socket?.destroy()
    else if (way === 2) this.#res.write(half, () => socket?.resetAndDestroy())
    else if (way === 3) this.#res.write(half, () => socket?.destroy())
    else if (way === 4) this.#res.write(`${numberedEvent(this.#next++, this.#scale)}${half}`, () => socket?.destroy())
    else this.#res.end(numberedEvent(this.#next++, this.#scale))
  }
}

/** A backend that can be gone for a while. */
class Backend {
  readonly feeds = new Set<Feed>()
  #server: Server = createServer()
  port = 0

  async start(): Promise<void> {
    this.#server = createServer({ noDelay: true, keepAliveTimeout: 1000 }, (req, res) => {
      const feed = new Feed(req, res)
      this.feeds.add(feed)
      res.on('error', () => {})
      res.once('close', () => this.feeds.delete(feed))
    })
    await new Promise<void>((resolve) => this.#server.listen(this.port, '127.0.0.1', 4096, resolve))
    this.port = (this.#server.address() as AddressInfo).port
  }

  /** Everything it had is gone at once, and for a second nobody is there. */
  async restart(): Promise<void> {
    await this.stop()
    await sleep(1000)
    await this.start()
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

/** A client that comes back like an EventSource, with the last id it has. */
class SoakClient {
  readonly #port: number
  readonly isSlow: boolean
  readonly #agent = new Agent({ keepAlive: false })
  readonly #reader: NumberedReader
  #res: IncomingMessage | undefined
  #wasPaused = false
  hasLeft = false

  constructor(port: number, isSlow: boolean) {
    this.#port = port
    this.isSlow = isSlow
    this.#reader = new NumberedReader(isSlow ? slowScale : 1)
    this.#connect()
  }

  get isOpen(): boolean {
    return this.#res !== undefined
  }

  /** Stops reading for a while, mostly for longer than the proxy waits. */
  rest(): void {
    const res = this.#res
    if (!this.isSlow || !res || res.isPaused()) return
    this.#wasPaused = true
    res.pause()
    setTimeout(() => res.resume(), writeMs * (0.5 + random() * 4))
  }

  leave(): void {
    if (this.hasLeft) return
    this.hasLeft = true
    counts.left += 1
    this.#sum()
    this.#res?.destroy()
    this.#agent.destroy()
  }

  #connect(): void {
    if (this.hasLeft) return
    const { last } = this.#reader
    const outgoing = request({
      host: '127.0.0.1',
      port: this.#port,
      path: this.isSlow ? '/?slow' : '/',
      agent: this.#agent,
      headers: { accept: 'text/event-stream', ...(last > 0 && { 'last-event-id': `${last}` }) },
    })
    outgoing.on('response', (res) => this.#take(res))
    outgoing.on('error', () => {
      if (this.hasLeft || this.#res) return
      counts.refused += 1
      this.#connectSoon()
    })
    outgoing.end()
  }

  #take(res: IncomingMessage): void {
    this.#res = res
    const isStream = res.statusCode === 200
    if (isStream) counts.opened += 1
    else counts.refused += 1
    if (isStream) res.setEncoding('utf8').on('data', (text: string) => this.#reader.take(text))
    else res.resume()
    res.on('error', () => {})
    res.once('close', () => {
      this.#res = undefined
      this.#reader.restart()
      if (this.hasLeft) return
      if (isStream) this.#noteEnd(res.complete)
      this.#connectSoon()
    })
  }

  #noteEnd(isComplete: boolean): void {
    if (isComplete) counts.ended += 1
    else if (this.#wasPaused) counts.slow += 1
    else counts.broken += 1
    this.#wasPaused = false
  }

  #connectSoon(): void {
    setTimeout(() => this.#connect(), 200 + random() * 800)
  }

  #sum(): void {
    counts.events += this.#reader.last
    for (const kind of ['lost', 'doubled', 'damaged'] as const) tally[kind] += this.#reader.tally[kind]
  }
}

async function main(): Promise<void> {
  const backends = [new Backend(), new Backend(), new Backend()]
  await Promise.all(backends.map((backend) => backend.start()))
  const target = backends.map(({ port }) => `http://127.0.0.1:${port}`)
  const options = {
    target,
    resume: { attempts: 20, delayMs: 50, maxDelayMs: 500 },
    retry: { attempts: 5, backoffMs: 50 },
    health: { failures: 20, ejectMs: 500, maxEjectMs: 500 },
    keepalive: 5000,
    timeouts: { writeMs },
    limits: { streams: streamCount * 2 },
  }
  const proxy = await startChild('soaked-proxy.ts', { setup: { options } })
  try {
    const port = await proxy.ask<number>('listen')
    console.log(`seed ${values.seed}: ${streamCount} streams for ${seconds} s`)
    await warmUp(port, proxy)
    const before = await held(proxy, backends)
    await soak(port, proxy, backends)
    await settle(proxy)
    const after = await held(proxy, backends)
    process.exitCode = report(before, after, await proxy.ask<ProxyStats>('stats')) ? 0 : 1
  } finally {
    await Promise.all(backends.map((backend) => backend.stop()))
    await proxy.end()
  }
}

/** What is made once, compiled code above all, is no leak. */
async function warmUp(port: number, proxy: Child): Promise<void> {
  const clients = Array.from({ length: Math.min(streamCount, 500) }, () => new SoakClient(port, false))
  await until(() => clients.every(({ isOpen }) => isOpen), 'the streams of the warm-up', 60_000)
  for (const client of clients) client.leave()
  await settle(proxy)
  Object.assign(counts, { opened: 0, left: 0, events: 0 })
}

async function soak(port: number, proxy: Child, backends: Backend[]): Promise<void> {
  const clients = new Set<SoakClient>()
  const slow = new Set<SoakClient>()
  const endAt = Date.now() + seconds * 1000
  let ticks = 0
  const feedTimer = startFeeding(backends)
  while (Date.now() < endAt) {
    const tickAt = Date.now()
    ticks += 1
    const thousands = streamCount / 1000
    // The crowd comes in over a few seconds.
    for (let joins = Math.ceil(streamCount / 30); joins > 0 && clients.size < streamCount; joins -= 1) {
      const isSlow = slow.size < slowCount
      const client = new SoakClient(port, isSlow)
      clients.add(client)
      if (isSlow) slow.add(client)
    }
    for (const client of some(clients, perTick.leaves * thousands)) {
      clients.delete(client)
      slow.delete(client)
      client.leave()
    }
    for (const client of some(slow, 0.2)) client.rest()
    for (let deaths = perTick.deaths * thousands; random() < deaths; deaths -= 1) {
      const [feed] = some(backends[Math.floor(random() * backends.length)]?.feeds ?? new Set<Feed>(), 1)
      feed?.die()
      counts.deaths += 1
    }
    if (ticks % 150 === 149) {
      counts.outages += 1
      void backends[counts.outages % backends.length]?.restart()
    }
    if (ticks % 100 === 0) {
      const stats = await proxy.ask<ProxyStats>('stats')
      const rss = await proxy.ask<number>('memory')
      console.log(
        `${Math.round(seconds - (endAt - Date.now()) / 1000)} s: ${stats.active} open, ${stats.opened} opened, ` +
          `${stats.resumes} resumed, ${stats.eventsOut} events, rss ${inMiB(rss)}`,
      )
    }
    await sleep(Math.max(0, tickMs - (Date.now() - tickAt)))
  }
  clearInterval(feedTimer)
  for (const client of clients) client.leave()
  // One that is about to come back as its backend is.
  await sleep(1500)
}

/** Each stream in its turn, so that the events are spread over the second. */
function startFeeding(backends: Backend[]): NodeJS.Timeout {
  const stepMs = 50
  let step = 0
  return setInterval(() => {
    step = (step + 1) % (eventEveryMs / stepMs)
    for (const { feeds } of backends) {
      let index = 0
      for (const feed of feeds) if (index++ % (eventEveryMs / stepMs) === step) feed.send()
    }
  }, stepMs)
}

async function settle(proxy: Child): Promise<void> {
  const deadline = Date.now() + 30_000
  for (;;) {
    const { active, upstreams } = await proxy.ask<ProxyStats>('stats')
    if (active === 0 && upstreams.every((upstream) => upstream.active === 0)) return
    if (Date.now() > deadline) return
    await sleep(100)
  }
}

/** Once connections that are merely kept have had their time, and the timers of health as well. */
async function held(proxy: Child, backends: Backend[]): Promise<Held> {
  for (const backend of backends) {
    await backend.stop()
    await backend.start()
  }
  let least = await proxy.ask<Held>('held')
  for (let tries = 0; tries < 20; tries += 1) {
    await sleep(250)
    const now = await proxy.ask<Held>('held')
    least = {
      sockets: Math.min(least.sockets, now.sockets),
      timers: Math.min(least.timers, now.timers),
      heapBytes: Math.min(least.heapBytes, now.heapBytes),
      rssBytes: now.rssBytes,
    }
  }
  return least
}

/** Whether all is well. */
function report(before: Held, after: Held, stats: ProxyStats): boolean {
  const closed = Object.values(stats.closed).reduce((sum, count) => sum + count, 0)
  const leaks = {
    streams: stats.active + (stats.opened - closed),
    upstreamRequests: stats.upstreams.reduce((sum, { active }) => sum + active, 0),
    sockets: Math.max(0, after.sockets - before.sockets),
    timers: Math.max(0, after.timers - before.timers),
    heap: after.heapBytes - before.heapBytes > allowedHeapBytes ? 1 : 0,
  }
  console.log(
    [
      '',
      `opened ${counts.opened}, left ${counts.left}, ended and came back ${counts.ended}, let go as slow ${counts.slow}, refused ${counts.refused}`,
      `upstream deaths ${counts.deaths}, outages ${counts.outages}, retries ${stats.retries}, resumes ${stats.resumes}`,
      `closed ${JSON.stringify(stats.closed)}, errors ${JSON.stringify(stats.errors)}`,
      `events ${counts.events}: lost ${tally.lost}, doubled ${tally.doubled}, damaged ${tally.damaged}`,
      `streams broken off although they could have gone on: ${counts.broken}`,
      `heap ${inMiB(before.heapBytes)} before, ${inMiB(after.heapBytes)} after; rss ${inMiB(after.rssBytes)}`,
      `sockets ${before.sockets} before, ${after.sockets} after; timers ${before.timers} before, ${after.timers} after`,
      `leaked: ${JSON.stringify(leaks)}`,
    ].join('\n'),
  )
  const wrong = [...Object.values(tally), ...Object.values(leaks), counts.broken].some((count) => count > 0)
  console.log(wrong ? 'NOT WELL' : 'all is well')
  return !wrong && counts.events > 0
}

/** So many of a set, each as likely as any other. */
function some<T>(all: ReadonlySet<T>, count: number): T[] {
  const whole = Math.floor(count) + (random() < count % 1 ? 1 : 0)
  if (all.size === 0 || whole === 0) return []
  const indexes = new Set(Array.from({ length: whole }, () => Math.floor(random() * all.size)))
  const chosen: T[] = []
  let index = 0
  for (const one of all) if (indexes.has(index++)) chosen.push(one)
  return chosen
}

function inMiB(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`
}

await main()
