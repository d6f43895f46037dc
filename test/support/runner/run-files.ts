// All test files, several at once. They share one browser, which is started when the first of them needs it, and a folder for
// what is made once for all of them.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BrowserServer } from 'playwright-core'
import { endBrowser, launchBrowser, sharing, withoutBrowser } from '../chromium.ts'
import { type Compiled, compile, recorderOf, untrackedOf } from './compiled.ts'
import { type Outcome, runTestFile } from './test-process.ts'

/** Files that start in this order, so many at once. Whoever is through with a lane helps with the others. */
export interface Lane {
  /** Relative to the root. */
  files: readonly string[]
  atOnce: number
}

export interface Run {
  root: string
  /** They run side by side. */
  lanes: readonly Lane[]
  oneFileMs: number
  /** Once a file is through. */
  onOutcome?: (outcome: Outcome) => void
  /** No further file starts after it. */
  signal?: AbortSignal
}

const MAX_RUN_AGAIN = 3
const browserModule = 'test/support/chromium.ts'

export async function runFiles({ root, lanes, oneFileMs, onOutcome, signal }: Run): Promise<Outcome[]> {
  const compiled = await compile(
    root,
    lanes.flatMap(({ files }) => files),
  )
  const shared = await mkdtemp(join(tmpdir(), 'tests-'))
  const browser = new SharedBrowser(compiled)
  const outcomes: Outcome[] = []

  const run = async (file: string, isTracked: boolean): Promise<Outcome> =>
    runTestFile({
      file,
      path: compiled.pathOf(file),
      recorder: recorderOf(compiled),
      preloaded: isTracked ? [] : [untrackedOf(compiled)],
      timeoutMs: oneFileMs,
      env: { ...process.env, TEST_COMPILED: compiled.folder, TEST_SHARED: shared, ...(await browser.envFor(file)) },
    })
  const queues = lanes.map(({ files }) => files.values())
  const takeTurns = async (files: Iterable<string>): Promise<void> => {
    for (const file of files) {
      if (signal?.aborted) return
      const outcome = await run(file, await compiled.hasSuites(file))
      outcomes.push(outcome)
      onOutcome?.(outcome)
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
    for (const [i, outcome] of failedBesideOthers(outcomes)) {
      if (signal?.aborted) break
      // Whose an error is that nobody has caught shows now.
      const again = await run(outcome.file, true)
      onOutcome?.(again)
      if (again.failed.length === 0) outcomes[i] = { ...again, failedAtFirst: outcome.failed }
    }
  } finally {
    await browser.end()
    await compiled.remove()
    await rm(shared, { recursive: true, force: true })
  }
  return outcomes
}

/**
 * What failed while other files ran, with its place among the outcomes. It may be the machine that was too slow, so it is
 * run again, alone; where more has failed than that explains, it is not.
 */
function failedBesideOthers(outcomes: readonly Outcome[]): [number, Outcome][] {
  const failed = [...outcomes.entries()].filter(([, outcome]) => outcome.failed.length > 0)
  return outcomes.length > 1 && failed.length <= MAX_RUN_AGAIN ? failed : []
}

class SharedBrowser {
  readonly #compiled: Compiled
  #launched: Promise<BrowserServer | undefined> | undefined

  constructor(compiled: Compiled) {
    this.#compiled = compiled
  }

  async envFor(file: string): Promise<NodeJS.ProcessEnv> {
    if (withoutBrowser || !this.#compiled.reaches(file, browserModule)) return {}
    // A file that gets none launches its own, and tells what is wrong.
    this.#launched ??= launchBrowser().catch(() => undefined)
    const server = await this.#launched
    return server ? sharing(server) : {}
  }

  async end(): Promise<void> {
    const server = await this.#launched
    if (server) await endBrowser(server)
  }
}
