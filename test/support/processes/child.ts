// A helper process: started with what it needs to know, asked over its own channel, ended by its pid.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { within } from '../waiting.ts'

export interface ChildOptions {
  /** Reaches the process as its first argument, as JSON. */
  setup?: unknown
  execArgv?: string[]
  env?: NodeJS.ProcessEnv
}

export class Child {
  readonly process: ChildProcess
  output = ''
  readonly #exit: Promise<number | null>
  readonly #answers = new Map<number, (answer: unknown) => void>()
  #questions = 0

  constructor(process: ChildProcess) {
    this.process = process
    this.#exit = once(process, 'exit').then(([code]) => code as number | null)
    for (const stream of [process.stdout, process.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output += text
      })
    }
    process.on('message', ({ id, answer }: { id: number; answer: unknown }) => this.#answers.get(id)?.(answer))
  }

  /** The answer of what the process does under this name. */
  ask<T>(name: string, input?: unknown, ms?: number): Promise<T> {
    const id = this.#questions++
    const answer = new Promise<T>((resolve) => this.#answers.set(id, resolve as (answer: unknown) => void))
    this.process.send({ id, name, input })
    return within(answer, () => `an answer to ${name}: ${this.output.slice(-2000)}`, ms)
  }

  /** Asks every few milliseconds until the answer is as wanted, which leaves the process time for other things. */
  async askUntil<T>(name: string, isSo: (answer: T) => boolean, ms: number = 30_000): Promise<T> {
    const deadline = Date.now() + ms
    for (;;) {
      const answer = await this.ask<T>(name)
      if (isSo(answer)) return answer
      if (Date.now() > deadline) throw new Error(`waited ${ms} ms for another answer to ${name}`)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.process.kill(signal)
  }

  /** The exit code, or null after a signal. */
  exited(ms?: number): Promise<number | null> {
    return within(this.#exit, () => `the end of the process: ${this.output.slice(-2000)}`, ms)
  }

  get hasEnded(): boolean {
    return this.process.exitCode !== null || this.process.signalCode !== null
  }

  async end(): Promise<void> {
    if (!this.hasEnded) this.process.kill('SIGKILL')
    await this.#exit
  }
}

/** How a file of this folder is run: compiled already, where the runner has started the test. */
export function scriptOf(file: string): { path: string; execArgv: string[] } {
  const compiled = process.env.TEST_COMPILED
  if (compiled !== undefined) {
    return {
      path: join(compiled, 'test/support/processes', file.replace(/\.ts$/, '.mjs')),
      execArgv: [],
    }
  }
  return { path: fileURLToPath(new URL(file, import.meta.url)), execArgv: ['--import', 'tsx'] }
}

/** Starts the process in `file`, a name in this folder, and waits until it answers. */
export async function startChild(file: string, options: ChildOptions = {}): Promise<Child> {
  const { path, execArgv } = scriptOf(file)
  const child = new Child(
    fork(path, [JSON.stringify(options.setup ?? {})], {
      execArgv: [...execArgv, ...(options.execArgv ?? [])],
      env: { ...process.env, NODE_OPTIONS: '', ...options.env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    }),
  )
  await child.ask('ready', undefined, 30_000)
  return child
}

/** The same for the time of a test. */
export async function childOf(t: TestContext, file: string, options?: ChildOptions): Promise<Child> {
  const child = await startChild(file, options)
  t.after(() => child.end())
  return child
}

/** In the process: what was handed over at the start. */
export function setup<T>(): T {
  return JSON.parse(process.argv[2] ?? '{}') as T
}

/** In the process: answers questions by name. */
// biome-ignore lint/suspicious/noExplicitAny: each question has its own input
export function answer(answers: Record<string, (input: any) => unknown>): void {
  process.on('message', async ({ id, name, input }: { id: number; name: string; input: unknown }) => {
    const result = name === 'ready' ? true : await answers[name]?.(input)
    process.send?.({ id, answer: result })
  })
  // The test is gone; one that disconnects by itself ends by itself.
  process.once('disconnect', () => setTimeout(() => process.exit(1), 20_000).unref())
}
