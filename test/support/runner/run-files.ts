// All test files, several at once: the one browser that they share is started when the first of them needs it.
import type { BrowserServer } from 'playwright-core'
import { endBrowser, launchBrowser, sharing, withoutBrowser } from '../chromium.ts'
import { type Compiled, compile, recorderOf } from './compiled.ts'
import { type Outcome, runTestFile } from './test-process.ts'

export interface Run {
  root: string
  /** Relative to `root`; they start in this order. */
  files: readonly string[]
  filesAtOnce: number
  oneFileMs: number
  /** Once a file is through. */
  onOutcome?: (outcome: Outcome) => void
  /** No further file starts after it. */
  signal?: AbortSignal
}

const MAX_RUN_AGAIN = 3
const browserModule = 'test/support/chromium.ts'

export async function runFiles({ root, files, filesAtOnce, oneFileMs, onOutcome, signal }: Run): Promise<Outcome[]> {
  const compiled = await compile(root, files)
  const browser = new SharedBrowser(compiled)
  const outcomes: Outcome[] = []
  const waiting = files.values()

  const run = async (file: string): Promise<Outcome> =>
    runTestFile({
      file,
      path: compiled.pathOf(file),
      recorder: recorderOf(compiled),
      timeoutMs: oneFileMs,
      env: { ...process.env, TEST_COMPILED: compiled.folder, ...(await browser.envFor(file)) },
    })
  const takeTurns = async (): Promise<void> => {
    for (const file of waiting) {
      if (signal?.aborted) return
      const outcome = await run(file)
      outcomes.push(outcome)
      onOutcome?.(outcome)
    }
  }
  try {
    await Promise.all(Array.from({ length: filesAtOnce }, takeTurns))
    for (const [i, outcome] of failedBesideOthers(outcomes, filesAtOnce)) {
      if (signal?.aborted) break
      const again = await run(outcome.file)
      onOutcome?.(again)
      if (again.failed.length === 0) outcomes[i] = { ...again, failedAtFirst: outcome.failed }
    }
  } finally {
    await browser.end()
    await compiled.remove()
  }
  return outcomes
}

/**
 * What failed while other files ran, with its place among the outcomes. It may be the machine that was too slow, so it is
 * run again, alone; where more has failed than that explains, it is not.
 */
function failedBesideOthers(outcomes: readonly Outcome[], filesAtOnce: number): [number, Outcome][] {
  const failed = [...outcomes.entries()].filter(([, outcome]) => outcome.failed.length > 0)
  return Math.min(filesAtOnce, outcomes.length) > 1 && failed.length <= MAX_RUN_AGAIN ? failed : []
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
