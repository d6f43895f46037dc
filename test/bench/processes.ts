// Starts and ends processes: proxies on one CPU, load generators on another, each ended by its id.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { compiled } from './compile.ts'
import type { Contender } from './contenders/index.ts'
import type { Place } from './contenders/place.ts'
import type { Refusal } from './contenders/serve.ts'
import type { Figures } from './load/load.ts'
import type { Assignment, LoadMessage } from './load/main.ts'
import { type Usage, usageOf, withDescendants } from './usage.ts'

const proxyCpu = 0
const loadCpu = 1
const startMs = 10_000
const stopMs = 1_500
const loadMs = 100_000

const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) killWithDescendants(child)
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))

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

/** A contender that cannot take part: not installed, or its options are refused. */
export class NotTakingPart extends Error {}

/** A proxy that is running, or the lack of one for the direct connection. */
export class RunningProxy {
  readonly name: string
  readonly place: Place
  readonly #child: ChildProcess | undefined
  readonly #folder: string

  private constructor(name: string, place: Place, folder: string, child: ChildProcess | undefined) {
    this.name = name
    this.place = place
    this.#folder = folder
    this.#child = child
  }

  static async start({ name, command }: Contender, place: Place): Promise<RunningProxy> {
    const folder = mkdtempSync(join(tmpdir(), 'sse-bench-'))
    if (!command) return new RunningProxy(name, { ...place, port: place.upstreamPorts[0] ?? 0 }, folder, undefined)
    const what = command(place, folder)
    if (!what) {
      rmSync(folder, { recursive: true })
      throw new NotTakingPart('not installed')
    }
    const log = openSync(join(folder, 'log'), 'w')
    const child = start(proxyCpu, what.file, what.args, log)
    closeSync(log)
    const proxy = new RunningProxy(name, place, folder, child)
    try {
      await proxy.#listening(child)
      return proxy
    } catch (error) {
      await proxy.stop()
      throw error
    }
  }

  get isDirect(): boolean {
    return this.#child === undefined
  }

  get isRunning(): boolean {
    return !this.#child || !isOver(this.#child)
  }

  async usage(): Promise<Usage> {
    const none = { cpuMs: 0, waitMs: 0, rssKiB: 0, atMs: performance.now() }
    const child = this.#child
    if (child?.pid === undefined) return none
    const seen = usageOf(child.pid)
    if (seen || !child.connected) return seen ?? none
    child.send('usage')
    const [told] = await once(child, 'message')
    return told
  }

  async stop(): Promise<void> {
    const child = this.#child
    if (child && !isOver(child)) {
      const gone = once(child, 'exit')
      const descendants = child.pid === undefined ? [] : descendantsOf(child.pid)
      child.kill('SIGTERM')
      if (!(await Promise.race([gone.then(() => true), sleep(stopMs)]))) child.kill('SIGKILL')
      descendants.forEach(killQuietly)
      await gone
    }
    rmSync(this.#folder, { recursive: true, force: true })
  }

  async #listening(child: ChildProcess): Promise<void> {
    let refused: string | undefined
    const onMessage = (message: Refusal) => {
      refused = message.refused
    }
    child.once('message', onMessage)
    const end = performance.now() + startMs
    while (!(await accepts(this.place.port))) {
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
  const { port, upstreamPorts } = proxy.place
  const assignment: Assignment = { run, clientPort: port, upstreamPorts }
  const child = start(loadCpu, process.execPath, [compiled('load/main'), JSON.stringify(assignment)], 'inherit')
  const patience = setTimeout(() => child.kill('SIGKILL'), loadMs)
  let figures: Figures | undefined
  child.on('message', async (message: LoadMessage) => {
    if ('figures' in message) figures = message.figures
    else if (child.connected) child.send(await proxy.usage())
    else return
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
