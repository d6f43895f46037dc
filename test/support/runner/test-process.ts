// One test file in a process of its own: what became of its tests, and why it failed when it did not get that far.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { setTimeout as passing } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import type { Entry } from './record.ts'

export interface Outcome {
  file: string
  ms: number
  /** What the process has computed, without those that it has started; where it is much less than `ms`, the file waits. */
  cpuMs: number
  passed: number
  failed: { name: string; error: string }[]
  /** What failed while other files ran, where all of the file passed when it ran again alone. */
  failedAtFirst?: { name: string; error: string }[]
  skipped: { name: string; reason: string }[]
  /** What the process printed, the last of it. */
  output: string
}

export interface TestProcess {
  file: string
  /** What is run: the file, compiled. */
  path: string
  recorder: string
  /** Modules that are loaded before it. */
  preloaded: readonly string[]
  timeoutMs: number
  env: NodeJS.ProcessEnv
}

const outputCharacters = 20_000
const running = new Set<ChildProcess>()

export async function runTestFile({ file, path, recorder, preloaded, timeoutMs, env }: TestProcess): Promise<Outcome> {
  const start = performance.now()
  const records = `${path}.records`
  const imports = preloaded.flatMap((module) => ['--import', pathToFileURL(module).href])
  const child = spawn(
    process.execPath,
    ['--enable-source-maps', ...imports, `--test-reporter=${recorder}`, `--test-reporter-destination=${records}`, path],
    // A group of its own, so that whatever the tests have started ends with it.
    { stdio: ['ignore', 'pipe', 'pipe'], env, detached: true },
  )
  running.add(child)
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-outputCharacters)
    })
  }
  let isLate = false
  const deadline = setTimeout(() => {
    isLate = true
    endGroup(child)
  }, timeoutMs)

  const closed = once(child, 'close')
  const [code, signal] = await once(child, 'exit')
  clearTimeout(deadline)
  endGroup(child)
  running.delete(child)
  // What it printed last; a process that has left the group may keep the pipes open.
  await Promise.race([closed, passing(1000, undefined, { ref: false })])

  const entries = await read(records)
  const outcome = { ...outcomeOf(entries), file, ms: performance.now() - start, output }
  const ending = isLate ? `it was not through after ${timeoutMs / 1000} s` : `its process ended with ${signal ?? code}`
  const isThrough = entries.at(-1)?.kind === 'through'
  for (const entry of entries) if (entry.kind === 'uncaught') outcome.failed.push({ name: file, error: entry.error })
  if (isLate || !isThrough || (code !== 0 && outcome.failed.length === 0)) {
    outcome.failed.push({ name: isThrough ? file : unfinished(entries), error: ending })
  }
  return outcome
}

/** Ends the test files that are still running, and what they have started. */
export function endTestProcesses(): void {
  for (const child of running) endGroup(child)
}

function endGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // All of it has ended by itself.
  }
}

async function read(records: string): Promise<Entry[]> {
  const text = await readFile(records, 'utf8').catch(() => '')
  // The last line may have been cut off with its process.
  const lines = text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .filter(Boolean)
  return lines.map((line): Entry => JSON.parse(line))
}

function outcomeOf(entries: readonly Entry[]): Pick<Outcome, 'cpuMs' | 'passed' | 'failed' | 'skipped'> {
  return {
    cpuMs: entries.find((entry) => entry.kind === 'through')?.cpuMs ?? 0,
    passed: entries.filter(({ kind }) => kind === 'passed').length,
    failed: entries.filter((entry) => entry.kind === 'failed'),
    skipped: entries.filter((entry) => entry.kind === 'skipped'),
  }
}

/** The test that the file did not come back from. */
function unfinished(entries: readonly Entry[]): string {
  const names = new Set<string>()
  for (const entry of entries) {
    if (entry.kind === 'started') names.add(entry.name)
    else if ('name' in entry) names.delete(entry.name)
  }
  return [...names].at(-1) ?? 'before or after its tests'
}
