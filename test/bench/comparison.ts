// Plays the rounds. They are interleaved: every measure goes through all contenders before the next one begins, in
// another order in each round, so that what happens to the machine happens to all of them.

import { createServer } from 'node:net'
import type { Contender } from './contenders/index.ts'
import type { Place } from './contenders/place.ts'
import type { Figures } from './load/load.ts'
import { warmUp } from './measures/index.ts'
import { isPlain, type Run } from './measures/measure.ts'
import { measure, NotTakingPart, RunningProxy } from './processes.ts'
import { disturbancePct, isDisturbed, type Result } from './report.ts'

export interface ComparisonOptions {
  readonly rounds: number
  readonly contenders: readonly Contender[]
  readonly runs: readonly Run[]
  readonly firstPort: number
  /** How often a run is played at most while other programs are in its way. */
  readonly tries: number
  /** After this time, the first try of a run is the last. */
  readonly retriesMs: number
  /** After this time, no run begins. */
  readonly atMostMs: number
}

const upstreamsEach = 3

export class Comparison {
  readonly results: Result[] = []
  /** Who does not take part, and why. */
  readonly skipped: Map<string, string> = new Map()
  readonly failures: string[] = []
  readonly #options: ComparisonOptions
  #port: number
  readonly #startedAt = performance.now()
  #done = 0
  #leftOut = 0

  constructor(options: ComparisonOptions) {
    this.#options = options
    this.#port = options.firstPort
  }

  async play(): Promise<void> {
    const { rounds, runs } = this.#options
    const [fresh, others] = [runs.filter((run) => run.fresh), runs.filter((run) => !run.fresh)]
    for (let round = 0; round < rounds; round++) {
      if (others.length > 0) await this.#playTogether(round, others)
      for (const run of fresh) await this.#playFresh(round, run)
    }
    if (this.#leftOut > 0) this.#fail(`${this.#leftOut} runs are left out: it took too long`)
  }

  /** All proxies run all the time, and only one of them has something to do. */
  async #playTogether(round: number, runs: readonly Run[]): Promise<void> {
    const proxies: RunningProxy[] = []
    for (const contender of this.#takingPart()) {
      if (!runs.some((run) => takes(run, contender))) continue
      const proxy = await this.#startWarm(contender)
      if (proxy) proxies.push(proxy)
    }
    for (const run of runs) {
      for (const place of rotated([...proxies.keys()], round)) {
        let proxy = proxies[place]
        if (!proxy || !takes(run, proxy.contender)) continue
        if (!proxy.isRunning) {
          await proxy.stop()
          proxy = await this.#startWarm(proxy.contender)
          if (!proxy) continue
          proxies[place] = proxy
        }
        await this.#play(round, run, proxy)
      }
    }
    for (const proxy of proxies) await proxy.stop()
  }

  async #playFresh(round: number, run: Run): Promise<void> {
    for (const contender of rotated(this.#takingPart(run), round)) {
      const proxy = await this.#start(contender)
      if (!proxy) continue
      await this.#play(round, run, proxy)
      await proxy.stop()
    }
  }

  #takingPart(run?: Run): Contender[] {
    return this.#options.contenders.filter(
      (contender) => !this.skipped.has(contender.name) && (!run || takes(run, contender)),
    )
  }

  async #start(contender: Contender): Promise<RunningProxy | undefined> {
    const { name } = contender
    try {
      return await RunningProxy.start(contender, await this.#place())
    } catch (error) {
      if (error instanceof NotTakingPart) {
        const [reason = ''] = error.message.split(';')
        this.skipped.set(name, reason)
        console.error(`${name} is left out: ${reason}`)
      } else {
        this.skipped.set(name, 'it did not start')
        this.#fail(String(error))
      }
      return undefined
    }
  }

  /** Lets compilers settle before anything counts. */
  async #startWarm(contender: Contender): Promise<RunningProxy | undefined> {
    const proxy = await this.#start(contender)
    if (!proxy || !takes(warmUp, contender)) return proxy
    console.error(`warming up ${proxy.name}`)
    await measure(proxy, warmUp.name).catch((error) => this.#fail(`warming up ${proxy.name}: ${error}`))
    return proxy
  }

  async #play(round: number, run: Run, proxy: RunningProxy): Promise<void> {
    if (this.#elapsedMs > this.#options.atMostMs) {
      this.#leftOut++
      return
    }
    try {
      const figures = await this.#leastDisturbed(proxy, run)
      this.results.push({ round, contender: proxy.name, run: run.name, figures })
      this.#progress(round, `${run.name.padEnd(14)} ${proxy.name.padEnd(24)} ${inShort(figures)}`)
    } catch (error) {
      this.#fail(`${run.name}, ${proxy.name}: ${error}`)
    }
  }

  /** Plays a run, and again where another program was in the way or something failed. */
  async #leastDisturbed(proxy: RunningProxy, run: Run): Promise<Figures> {
    const { tries, retriesMs } = this.#options
    let best: Figures | undefined
    let failure: unknown
    for (let i = 0; i < tries; i++) {
      try {
        const figures = await measure(proxy, run.name)
        if (!best || disturbancePct(figures) < disturbancePct(best)) best = figures
      } catch (error) {
        failure = error
      }
      if (best && (!isDisturbed(best) || this.#elapsedMs > retriesMs)) break
      // What has been used is not fresh any more.
      if (run.fresh || !proxy.isRunning) break
    }
    if (!best) throw failure
    return best
  }

  get #elapsedMs(): number {
    return performance.now() - this.#startedAt
  }

  #progress(round: number, text: string): void {
    const { rounds, runs } = this.#options
    const all = rounds * runs.reduce((sum, run) => sum + this.#takingPart(run).length, 0)
    const seconds = `${(this.#elapsedMs / 1e3).toFixed(0)} s`
    console.error(`${`${++this.#done}/${all}`.padStart(9)} ${seconds.padStart(7)}  round ${round + 1}  ${text}`)
  }

  #fail(what: string): void {
    this.failures.push(what)
    console.error(what)
  }

  /** Ports of one's own: what a proxy leaves behind must not reach the upstream of another. */
  async #place(): Promise<Place> {
    const ports: number[] = []
    while (ports.length < 4 + upstreamsEach) {
      const port = this.#port++
      if (await isFree(port)) ports.push(port)
    }
    const [port = 0, tlsPort = 0, ownerPort = 0, redisPort = 0, ...upstreamPorts] = ports
    return { port, tlsPort, ownerPort, redisPort, upstreamPorts }
  }
}

function takes(run: Run, contender: Contender): boolean {
  if (contender.measures && !contender.measures.includes(run.name)) return false
  return run.takes ? run.takes(contender) : isPlain(contender)
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}

function rotated<T>(list: readonly T[], by: number): T[] {
  return list.map((_, i) => list[(i + by) % list.length] as T)
}

function inShort(figures: Figures): string {
  return Object.entries(figures)
    .filter(([, value]) => Number.isFinite(value) && value !== 0)
    .map(([name, value]) => `${name} ${Number(value.toPrecision(3))}`)
    .join(', ')
}
