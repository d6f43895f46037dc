// A process that runs test files, one after the other: what became of their tests, and why a file failed when it did not get
// that far.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { setTimeout as passing } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import type { Entry } from './record.ts'
import { inSource } from './source-places.ts'

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
  /** They run in this order, each with the path of its compiled form. */
  files: readonly { file: string; path: string }[]
  /** The compiled modules that run them, and that record what becomes of their tests. */
  runner: string
  recorder: string
  /** Modules that are loaded before all. */
  preloaded: readonly string[]
  timeoutMs: number
  env: NodeJS.ProcessEnv
}

interface Ending {
  isLate: boolean
  code: number | null
  ending: string
}

const outputCharacters = 20_000
const running = new Set<ChildProcess>()

/** Of the files that the process has come to: where it ends early, those behind it are not among them. */
export async function runTestFiles(options: TestProcess): Promise<Outcome[]> {
  const { files, runner, recorder, preloaded, timeoutMs, env } = options
  const start = performance.now()
  const records = `${files[0]?.path}.records`
  const imports = preloaded.flatMap((module) => ['--import', pathToFileURL(module).href])
  const reporter = [`--test-reporter=${recorder}`, `--test-reporter-destination=${records}`]
  const child = spawn(
    process.execPath,
    [...imports, ...reporter, runner, ...files.map(({ path }) => path)],
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
  const outcomes = outcomesOf(files, entries, performance.now() - start).map((outcome) => ({
    ...outcome,
    output: inSource(output),
  }))
  const ending = isLate ? `it was not through after ${timeoutMs / 1000} s` : `its process ended with ${signal ?? code}`
  blame(outcomes, entries, { isLate, code, ending })
  return outcomes
}

/** Says of the end of a process which of its files have failed by it. */
function blame(outcomes: Outcome[], entries: readonly Entry[], { isLate, code, ending }: Ending): void {
  const isThrough = entries.at(-1)?.kind === 'through'
  const atWork = isThrough ? undefined : unfinished(entries)
  // What the process did and no test of it: any of its files may be the cause.
  const errors = entries.flatMap((entry) => (entry.kind === 'uncaught' ? [entry.error] : []))
  const hasFailed = errors.length > 0 || outcomes.some(({ failed }) => failed.length > 0)

  if (atWork !== undefined || (!isThrough && !isLate)) {
    outcomes.at(-1)?.failed.push({ name: atWork ?? 'before or after its tests', error: ending })
  } else if (isLate || (code !== 0 && !hasFailed)) errors.push(ending)
  for (const { file, failed } of outcomes) failed.push(...errors.map((error) => ({ name: file, error })))
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

/** Of the files that have begun; the first begins with the process, which has taken so long. */
function outcomesOf(files: TestProcess['files'], entries: readonly Entry[], ms: number): Omit<Outcome, 'output'>[] {
  const marks = entries.flatMap((entry, at) => (entry.kind === 'file' ? [{ ...entry, at }] : []))
  const begins = [{ at: 0, ms: 0, cpuMs: 0 }, ...marks.slice(1)]
  const cpuMs = entries.find((entry) => entry.kind === 'through')?.cpuMs ?? 0

  return files.flatMap(({ file }, i) => {
    const from = begins[i]
    if (from === undefined) return []

    const to = begins[i + 1] ?? { at: entries.length, ms, cpuMs }
    const own = entries.slice(from.at, to.at)
    return {
      file,
      ms: to.ms - from.ms,
      cpuMs: Math.max(0, to.cpuMs - from.cpuMs),
      passed: own.filter(({ kind }) => kind === 'passed').length,
      failed: own.filter((entry) => entry.kind === 'failed'),
      skipped: own.filter((entry) => entry.kind === 'skipped'),
    }
  })
}

/** The test that the process did not come back from. */
function unfinished(entries: readonly Entry[]): string | undefined {
  const names = new Set<string>()
  for (const entry of entries) {
    if (entry.kind === 'started') names.add(entry.name)
    else if ('name' in entry) names.delete(entry.name)
  }
  return [...names].at(-1)
}
