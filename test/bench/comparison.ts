// Plays the rounds. They are interleaved: every measure goes through all contenders before the next one begins, in
// another order in each round, so that what happens to the machine happens to all of them.

import { createServer } from 'node:net'
import type { Contender } from './contenders/index.ts'
import type { Place } from './contenders/place.ts'
import type { Figures } from './load/load.ts'
import { warmUps } from './measures/index.ts'
import type { Run } from './measures/measure.ts'
import { measure, NotTakingPart, RunningProxy } from './processes.ts'
import { isDisturbed, type Result } from './report.ts'

export interface ComparisonOptions {
  readonly rounds: number
  readonly contenders: readonly Contender[]
  readonly runs: readonly Run[]
  readonly firstPort: number
  /** How often a run is played at most while other programs are in its way. */
  readonly tries: number
}

const upstreamsEach = 3

export class Comparison {
  readonly results: Result[] = []
  /** Who does not take part, and why. */
  readonly skipped: Map<string, string> = new Map()
  readonly failures: string[] = []
  readonly #options: ComparisonOptions
  #port: number
  #done = 0

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
  }

  /** All proxies run all the time, and only one of them has something to do. */
  async #playTogether(round: number, runs: readonly Run[]): Promise<void> {
    const proxies: RunningProxy[] = []
    for (const contender of this.#takingPart()) {
      const proxy = await this.#start(contender)
      if (!proxy) continue
      proxies.push(proxy)
      await this.#warmUp(proxy)
    }
    for (const run of runs) {
      for (const proxy of rotated(proxies, round)) {
        if (proxy.isRunning && (!run.directOnly || proxy.isDirect)) await this.#play(round, run, proxy)
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
      ({ name, sharing, command }) =>
        !this.skipped.has(name) && (!run?.sharing || sharing === true) && (!run?.directOnly || !command),
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
  async #warmUp(proxy: RunningProxy): Promise<void> {
    for (const run of warmUps) await measure(proxy, run.name).catch((error) => this.#fail(`${proxy.name}: ${error}`))
  }

  async #play(round: number, run: Run, proxy: RunningProxy): Promise<void> {
    try {
      const figures = await this.#leastDisturbed(proxy, run)
      this.results.push({ round, contender: proxy.name, run: run.name, figures })
      this.#progress(round, `${run.name.padEnd(14)} ${proxy.name.padEnd(24)} ${inShort(figures)}`)
    } catch (error) {
      this.#fail(`${run.name}, ${proxy.name}: ${error}`)
    }
  }

  async #leastDisturbed(proxy: RunningProxy, run: Run): Promise<Figures> {
    let best = await measure(proxy, run.name)
    for (let i = 1; i < this.#options.tries && isDisturbed(best); i++) {
      const again = await measure(proxy, run.name)
      if ((again.waitPct ?? 0) < (best.waitPct ?? 0)) best = again
    }
    return best
  }

  #progress(round: number, text: string): void {
    const { rounds, runs } = this.#options
    const each = runs.reduce((sum, run) => sum + this.#takingPart(run).length, 0)
    console.error(`${String(++this.#done).padStart(4)}/${rounds * each}  round ${round + 1}  ${text}`)
  }

  #fail(what: string): void {
    this.failures.push(what)
    console.error(what)
  }

  /** Ports of one's own: what a proxy leaves behind must not reach the upstream of another. */
  async #place(): Promise<Place> {
    const ports: number[] = []
    while (ports.length < 1 + upstreamsEach) {
      const port = this.#port++
      if (await isFree(port)) ports.push(port)
    }
    const [port = 0, ...upstreamPorts] = ports
    return { port, upstreamPorts }
  }
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
