// The long version of the rolling restart: three upstreams die at random, in random ways, under many open streams that
// are resumed. It prints what was sent, received, lost and doubled, and fails when it was not exactly the same.
//
//   node --import tsx test/soak/rolling-restart.ts [minutes, 10 unless told otherwise]
import { type ClientRequest, get } from 'node:http'
import { sseProxy } from 'sse-proxy-middleware'
import { startFront } from '../support/front.ts'
import {
  type Death,
  deaths,
  NumberedFeed,
  type NumberedUpstream,
  numberedEvent,
  startNumberedUpstream,
} from '../support/numbered-upstreams.ts'
import { until } from '../support/waiting.ts'

const streams = 200
const eventEveryMs = 50
const reportEveryMs = 10_000
const minutes = Number(process.argv[2] ?? 10)

if (!(minutes > 0)) {
  console.error('The minutes must be a number above 0')
  process.exit(1)
}

/** A client that keeps count instead of what it has read. */
class Reader {
  received = 0
  lost = 0
  doubled = 0
  /** Bytes that are no event of the feed. */
  strange = 0
  ending: 'clean' | 'broken' | undefined
  readonly #request: ClientRequest
  #last = 0
  #rest = ''

  constructor(url: string) {
    this.#request = get(url, { agent: false }, (response) => {
      response.setEncoding('utf8')
      response.on('data', (text: string) => this.#read(text))
      response.on('end', () => this.#end('clean'))
      response.on('error', () => this.#end('broken'))
    })
    this.#request.on('error', () => this.#end('broken'))
  }

  get last(): number {
    return this.#last
  }

  close(): void {
    this.#request.destroy()
  }

  #read(text: string): void {
    const blocks = (this.#rest + text).split('\n\n')
    this.#rest = blocks.pop() ?? ''
    for (const block of blocks) this.#count(`${block}\n\n`)
  }

  #count(block: string): void {
    // On a machine that has too much to do, silence is long enough for keepalive comments.
    if (block.startsWith(':')) return
    const number = Number(/^id: (\d+)\n/.exec(block)?.[1])
    if (block !== numberedEvent(number)) {
      this.strange += block.length
    } else if (number <= this.#last) {
      this.doubled += 1
    } else {
      this.received += 1
      this.lost += number - this.#last - 1
      this.#last = number
    }
  }

  #end(ending: 'clean' | 'broken'): void {
    this.strange += this.#rest.length
    this.#rest = ''
    this.ending ??= ending
  }
}

const feed = new NumberedFeed()
const upstreams = await Promise.all([1, 2, 3].map(() => startNumberedUpstream(feed)))
const proxy = sseProxy({
  target: upstreams.map(({ url }) => url),
  resume: { attempts: 1_000, delayMs: 20, maxDelayMs: 500 },
  health: { ejectMs: 500, maxEjectMs: 2_000 },
  timeouts: { connectMs: 2_000, responseMs: 2_000, idleMs: 2_000 },
})
const front = await startFront('express5', proxy)
feed.start(eventEveryMs)
const readers = Array.from({ length: streams }, () => new Reader(front.url))
await until(() => readers.every(({ last }) => last > 0), 'the first event at every client', 60_000)

const died: Record<Death, number> = { reset: 0, fin: 0, half: 0, stall: 0 }
const deadline = Date.now() + minutes * 60_000
const reports = setInterval(() => console.log(summary()), reportEveryMs)
await Promise.all(upstreams.map((upstream) => liveAndDie(upstream)))
clearInterval(reports)

feed.finish()
const hasAll = (): boolean => readers.every(({ ending }) => ending !== undefined)
await until(hasAll, 'the last events to reach everybody', 60_000).catch((error) => console.error(String(error)))

const sent = feed.last * streams
const received = sum((reader) => reader.received)
const lost = sum((reader) => reader.lost + feed.last - reader.last)
const doubled = sum((reader) => reader.doubled)
const strange = sum((reader) => reader.strange)
const endings = readers.map(({ ending }) => ending ?? 'open')
const clean = endings.filter((ending) => ending === 'clean').length
const isExact = received === sent && lost === 0 && doubled === 0 && strange === 0 && clean === streams

console.log(summary())
console.log(`sent ${sent}, received ${received}, lost ${lost}, doubled ${doubled}, strange bytes ${strange}`)
console.log(`${clean} of ${streams} responses ended cleanly, ${proxy.stats().resumes} resumes, ${deathsTold()}`)
console.log(`${isExact ? '' : 'NOT '}every event reached every client exactly once`)
process.exitCode = isExact ? 0 : 1

for (const reader of readers) reader.close()
await proxy.close({ withinMs: 1_000 })
await front.close()
await Promise.all(upstreams.map((upstream) => upstream.close()))

/** Up for a while, down for a while, at the end up. */
async function liveAndDie(upstream: NumberedUpstream): Promise<void> {
  while (Date.now() < deadline) {
    await pass(between(500, 6_000))
    const death = deaths[Math.floor(Math.random() * deaths.length)] as Death
    died[death] += 1
    await upstream.kill(death)
    await pass(death === 'stall' ? between(1_000, 5_000) : between(50, 2_000))
    await upstream.restart()
  }
}

function summary(): string {
  const { active, resumes, retries } = proxy.stats()
  const { rss } = process.memoryUsage()
  const behind = Math.max(...readers.map((reader) => feed.last - reader.last))
  return (
    `${active} streams open, ${feed.last} events each, the slowest is ${behind} behind, ` +
    `${resumes} resumes, ${retries} retries, ${Math.round(rss / 1_048_576)} MiB`
  )
}

function deathsTold(): string {
  return Object.entries(died)
    .map(([death, times]) => `${times} ${death}`)
    .join(', ')
}

function sum(count: (reader: Reader) => number): number {
  return readers.reduce((total, reader) => total + count(reader), 0)
}

function between(min: number, max: number): number {
  return min + Math.random() * (max - min)
}

function pass(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
