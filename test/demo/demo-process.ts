// The demo as a process of its own, on any free port.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Arrivals, within } from '../support/waiting.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const startMs = 30_000

/** As a visitor starts it. */
export const fromSource = ['--import', 'tsx', 'demo/main.ts']
const compiled = process.env.TEST_COMPILED
/** Which takes half as long to start, and so do its nodes, where somebody has compiled it. */
export const asCompiled: string[] =
  compiled === undefined
    ? fromSource
    : ['--import', join(compiled, 'test/support/processes/compiled-forks.mjs'), join(compiled, 'demo/main.mjs')]

export class DemoProcess {
  readonly url: string
  readonly #child: ChildProcess
  readonly #output: () => string

  constructor(url: string, child: ChildProcess, output: () => string) {
    this.url = url
    this.#child = child
    this.#output = output
  }

  get output(): string {
    return this.#output()
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** Ends it at once, without a chance to tidy up. */
  async kill(): Promise<void> {
    const exit = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await within(exit, 'the demo to be gone')
  }

  /** Presses Ctrl-C and waits for the exit code. */
  async interrupt(): Promise<number | null> {
    const exit = once(this.#child, 'exit')
    this.#child.kill('SIGINT')
    const [code] = await within(exit, () => `the demo to end, it said ${this.output}`)
    return code
  }
}

/** Ends with the test. */
export async function startDemo(
  t: TestContext,
  { port = 0, env = {}, program = asCompiled }: { port?: number; env?: NodeJS.ProcessEnv; program?: string[] } = {},
): Promise<DemoProcess> {
  const child = spawn(process.execPath, program, {
    cwd: root,
    env: { ...process.env, ...env, PORT: String(port) },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.after(() => child.kill('SIGKILL'))
  const lines = new Arrivals<string>()
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output += text
      const address = /page +(http:\S+)/.exec(output)?.[1]
      if (address && lines.all.length === 0) lines.add(address)
    })
  }
  child.once('exit', (code) => lines.add(`exit ${code}`))
  const url = await lines.next('the demo to tell its address', startMs)
  if (!url.startsWith('http')) throw new Error(`the demo did not start (${url}): ${output}`)
  return new DemoProcess(url, child, () => output)
}
