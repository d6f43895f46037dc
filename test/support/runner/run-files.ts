// All test files, several processes at once. They share one browser, which is started when the first of them needs it, and a
// folder for what is made once for all of them.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BrowserServer } from 'playwright-core'
import { endBrowser, launchBrowser, sharing, withoutBrowser } from '../chromium.ts'
import { type Compiled, compile, recorderOf, runnerOf, untrackedOf } from './compiled.ts'
import { type Outcome, runTestFiles } from './test-process.ts'

/** Processes that start in this order, so many at once. Whoever is through with a lane helps with the others. */
export interface Lane {
  /** The files of each, relative to the root: they run one after the other. */
  processes: readonly (readonly string[])[]
  atOnce: number
}

export interface Run {
  root: string
  /** They run side by side. */
  lanes: readonly Lane[]
  oneProcessMs: number
  /** Once a file is through. */
  onOutcome?: (outcome: Outcome) => void
  /** No further file starts after it. */
  signal?: AbortSignal
}

const MAX_RUN_AGAIN = 3
const browserModule = 'test/support/chromium.ts'

export async function runFiles({ root, lanes, oneProcessMs, onOutcome, signal }: Run): Promise<Outcome[]> {
  const compiled = await compile(
    root,
    lanes.flatMap(({ processes }) => processes.flat()),
  )
  const shared = await mkdtemp(join(tmpdir(), 'tests-'))
  const browser = new SharedBrowser(compiled)
  const outcomes: Outcome[][] = []

  const run = async (files: readonly string[], isTracked: boolean): Promise<Outcome[]> => {
    const ofFiles = await runTestFiles({
      files: files.map((file) => ({ file, path: compiled.pathOf(file) })),
      runner: runnerOf(compiled),
      recorder: recorderOf(compiled),
      preloaded: isTracked ? [] : [untrackedOf(compiled)],
      timeoutMs: oneProcessMs,
      env: { ...process.env, TEST_COMPILED: compiled.folder, TEST_SHARED: shared, ...(await browser.envFor(files)) },
    })
    for (const outcome of ofFiles) onOutcome?.(outcome)
    return ofFiles
  }
  const queues = lanes.map(({ processes }) => processes.values())
  const takeTurns = async (processes: Iterable<readonly string[]>): Promise<void> => {
    for (const files of processes) {
      // First those with a clock of their own: while it stands, nobody can clear a timer that a file before has left.
      const [mocking, others] = await parted(files, compiled.mocksTimers)
      const [inSuites, plain] = await parted([...mocking, ...others], compiled.hasSuites)
      await runAll(inSuites, true)
      await runAll(plain, false)
    }
  }
  const runAll = async (files: readonly string[], isTracked: boolean): Promise<void> => {
    // Those behind the file that a process ends with get another process.
    for (let left = files; left.length > 0 && !signal?.aborted; ) {
      const ofFiles = await run(left, isTracked)
      outcomes.push(ofFiles)
      left = left.slice(ofFiles.length)
    }
  }
  try {
    await Promise.all(
      lanes.flatMap(({ atOnce }, lane) =>
        Array.from({ length: atOnce }, async () => {
          for (const queue of [...queues.slice(lane), ...queues.slice(0, lane)]) await takeTurns(queue)
        }),
      ),
    )
    for (const [ofFiles, i, failed] of failedBesideOthers(outcomes)) {
      if (signal?.aborted) break
      // Whose an error is that nobody has caught shows now.
      const [again] = await run([failed.file], true)
      if (again?.failed.length === 0) ofFiles[i] = { ...again, failedAtFirst: failed.failed }
    }
  } finally {
    await browser.end()
    await compiled.remove()
    await rm(shared, { recursive: true, force: true })
  }
  return outcomes.flat()
}

/**
 * What failed while other files ran, with its place among those of its process. It may be the machine that was too slow, or
 * another file of the process, so it is run again, alone; where more processes have failed than that explains, it is not.
 */
function failedBesideOthers(outcomes: readonly Outcome[][]): [Outcome[], number, Outcome][] {
  const hasFailed = ({ failed }: Outcome): boolean => failed.length > 0
  const failing = outcomes.filter((ofFiles) => ofFiles.some(hasFailed))
  if (outcomes.flat().length === 1 || failing.length > MAX_RUN_AGAIN) return []

  return failing.flatMap((ofFiles) =>
    [...ofFiles.entries()].flatMap(([i, outcome]): [Outcome[], number, Outcome][] =>
      hasFailed(outcome) ? [[ofFiles, i, outcome]] : [],
    ),
  )
}

/** Those that it is true of, and those that it is not. */
async function parted<T>(all: readonly T[], isOne: (item: T) => Promise<boolean>): Promise<[T[], T[]]> {
  const are = await Promise.all(all.map(isOne))
  return [all.filter((_, i) => are[i]), all.filter((_, i) => !are[i])]
}

class SharedBrowser {
  readonly #compiled: Compiled
  #launched: Promise<BrowserServer | undefined> | undefined

  constructor(compiled: Compiled) {
    this.#compiled = compiled
  }

  async envFor(files: readonly string[]): Promise<NodeJS.ProcessEnv> {
    if (withoutBrowser || !files.some((file) => this.#compiled.reaches(file, browserModule))) return {}
    // A process that gets none launches its own, and tells what is wrong.
    this.#launched ??= launchBrowser().catch(() => undefined)
    const server = await this.#launched
    return server ? sharing(server) : {}
  }

  async end(): Promise<void> {
    const server = await this.#launched
    if (server) await endBrowser(server)
  }
}
