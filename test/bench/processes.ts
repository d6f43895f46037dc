// Starts and ends processes: proxies on one CPU, load generators on another, each ended by its id.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { compiled } from './compile.ts'
import type { Command, Contender } from './contenders/index.ts'
import type { Place } from './contenders/place.ts'
import type { Refusal } from './contenders/serve.ts'
import type { Figures } from './load/load.ts'
import type { Assignment, LoadMessage, UsageAnswer } from './load/main.ts'
import { type Usage, usageOf, withDescendants } from './usage.ts'

const proxyCpu = 0
const loadCpu = 1
const startMs = 10_000
const stopMs = 1_500
const loadMs = 100_000

// What it takes to be quiet, and how long that is waited for.
const quietPct = 25
const quietMs = 40
const restlessMs = 2_000

const running = new Set<ChildProcess>()
const folders = new Set<string>()
process.on('exit', () => {
  for (const child of running) killWithDescendants(child)
  folders.forEach(removeFolder)
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => process.exit(128 + constants.signals[signal]))
}

/** Whether proxy and load can each have a CPU of their own. */
export const canPin: boolean = [proxyCpu, loadCpu].every(
  (cpu) => spawnSync('taskset', ['-c', String(cpu), 'true']).status === 0,
)

function start(cpu: number, file: string, args: readonly string[], output: number | 'inherit'): ChildProcess {
  const command = canPin ? ['taskset', '-c', String(cpu), file, ...args] : [file, ...args]
  const child = spawn(command[0] ?? file, command.slice(1), {
    stdio: ['ignore', output, output, 'ipc'],
    env: { ...process.env, NODE_ENV: 'production' },
  })
  running.add(child)
  child.once('exit', () => running.delete(child))
  // Whoever waits for its exit gets to know of what could not be started.
  child.on('error', () => running.delete(child))
  return child
}

function isOver(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null
}

function killWithDescendants(child: ChildProcess): void {
  if (child.pid === undefined || isOver(child)) return
  for (const pid of descendantsOf(child.pid)) killQuietly(pid)
  child.kill('SIGKILL')
}

function descendantsOf(pid: number): number[] {
  try {
    return withDescendants(pid).slice(1)
  } catch {
    return []
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Gone already.
  }
}

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'sse-bench-'))
  folders.add(folder)
  return folder
}

function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true })
  folders.delete(folder)
}

/** A contender that cannot take part: not installed, or its options are refused. */
export class NotTakingPart extends Error {}

/** A proxy that is running, or the lack of one for the direct connection. */
export class RunningProxy {
  readonly contender: Contender
  readonly place: Place
  #child: ChildProcess | undefined
  readonly #companions: ChildProcess[] = []
  readonly #folder: string

  private constructor(contender: Contender, place: Place, folder: string) {
    this.contender = contender
    this.place = place
    this.#folder = folder
  }

  static async start(contender: Contender, place: Place): Promise<RunningProxy> {
    const { command, companions } = contender
    const folder = makeFolder()
    if (!command) return new RunningProxy(contender, { ...place, port: place.upstreamPorts[0] ?? 0 }, folder)
    const what = command(place, folder)
    const beside = companions ? companions(place, folder) : []
    if (!what || !beside) {
      removeFolder(folder)
      throw new NotTakingPart(what ? 'what it needs is not installed (redis-server)' : 'not installed')
    }
    const proxy = new RunningProxy(contender, place, folder)
    try {
      for (const companion of beside) {
        // Not beside the load generator, which never rests.
        const child = proxy.#start(proxyCpu, companion)
        proxy.#companions.push(child)
        await proxy.#listening(child, companion.port)
      }
      proxy.#child = proxy.#start(proxyCpu, what)
      await proxy.#listening(proxy.#child, place.port)
      return proxy
    } catch (error) {
      await proxy.stop()
      throw error
    }
  }

  #start(cpu: number, { file, args }: Command): ChildProcess {
    const log = openSync(join(this.#folder, 'log'), 'a')
    const child = start(cpu, file, args, log)
    closeSync(log)
    return child
  }

  get name(): string {
    return this.contender.name
  }

  get isRunning(): boolean {
    return !this.#child || !isOver(this.#child)
  }

  /** Undefined where there is no proxy, or none that would tell. */
  async usage(): Promise<Usage | undefined> {
    const child = this.#child
    if (child?.pid === undefined) return undefined
    const seen = usageOf(child.pid)
    if (seen || !child.connected) return seen
    child.send('usage', ignore)
    const [told] = await once(child, 'message')
    return told
  }

  /** Waits until it is through with what the measure before has left it. */
  async quiet(): Promise<void> {
    const end = performance.now() + restlessMs
    for (;;) {
      const before = await this.usage()
      if (!before || performance.now() > end) return
      await sleep(quietMs)
      const after = await this.usage()
      if (!after || (100 * (after.cpuMs - before.cpuMs)) / (after.atMs - before.atMs) < quietPct) return
    }
  }

  async stop(): Promise<void> {
    for (const child of [this.#child, ...this.#companions.reverse()]) if (child) await this.#end(child)
    removeFolder(this.#folder)
  }

  async #end(child: ChildProcess): Promise<void> {
    if (!isOver(child)) {
      const gone = once(child, 'exit')
      const descendants = child.pid === undefined ? [] : descendantsOf(child.pid)
      child.kill('SIGTERM')
      if (!(await Promise.race([gone.then(() => true), sleep(stopMs)]))) child.kill('SIGKILL')
      descendants.forEach(killQuietly)
      await gone
    }
  }

  async #listening(child: ChildProcess, port: number): Promise<void> {
    let refused: string | undefined
    const onMessage = (message: Refusal) => {
      refused = message.refused
    }
    child.once('message', onMessage)
    const end = performance.now() + startMs
    while (!(await accepts(port))) {
      if (refused !== undefined) throw new NotTakingPart(refused)
      if (isOver(child) || performance.now() > end) {
        throw new Error(
          `${this.name} did not start: ${readFileSync(join(this.#folder, 'log'), 'utf8').slice(0, 1_000)}`,
        )
      }
      await sleep(50)
    }
    child.off('message', onMessage)
  }
}

// A process that has gone cannot be told anything, and need not be.
function ignore(): void {}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

/** Has a load generator do one run. */
export async function measure(proxy: RunningProxy, run: string): Promise<Figures> {
  await proxy.quiet()
  const { port, ownerPort, ...others } = proxy.place
  const { follows, host } = proxy.contender
  const http2 = host === 'http2-server'
  const assignment: Assignment = { run, clientPort: port, http2, ...(follows && { ownerPort }), ...others }
  const child = start(loadCpu, process.execPath, [compiled('load/main'), JSON.stringify(assignment)], 'inherit')
  const patience = setTimeout(() => child.kill('SIGKILL'), loadMs)
  let figures: Figures | undefined
  child.on('message', async (message: LoadMessage) => {
    if ('figures' in message) figures = message.figures
    else {
      const answer: UsageAnswer = { usage: await proxy.usage() }
      if (child.connected) child.send(answer, ignore)
    }
  })
  await once(child, 'exit')
  clearTimeout(patience)
  if (!figures) throw new Error(`the load generator ended with ${child.exitCode ?? child.signalCode}`)
  if (!proxy.isRunning) throw new Error(`${proxy.name} ended while it was measured`)
  return figures
}

/**
 * Keeps the proxy's CPU from halting between events, at a priority below everything else: waking a virtual CPU up
 * costs more than an event. Where that cannot be done, figures at low rates are higher.
 */
export function keepAwake(): void {
  if (!canPin || spawnSync('chrt', ['--idle', '0', 'true']).status !== 0) return
  const spin = `const parent = ${process.pid}; for (;;) { for (let i = 0; i < 2e8; i++); if (process.ppid !== parent) process.exit() }`
  start(proxyCpu, 'chrt', ['--idle', '0', process.execPath, '-e', spin], 'inherit')
}
