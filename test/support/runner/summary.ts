// What is said of the tests: a line for each file when it is through, and in the end what failed, what was skipped and
// why, and how many there were.
import type { Outcome } from './test-process.ts'

/** One line, and under it what failed. */
export function lineOf({ file, ms, cpuMs, passed, failed, skipped, output }: Outcome): string {
  const count = passed + failed.length + skipped.length
  const head = `${failed.length > 0 ? '✖' : '✔'} ${file} (${count} ${count === 1 ? 'test' : 'tests'}, ${seconds(ms)}, ${seconds(cpuMs)} of CPU)`
  if (failed.length === 0) return head

  const failures = failed.map(({ name, error }) => `  ✖ ${name}\n${indented(error)}`)
  return [head, ...failures, ...(output.trim() ? [`  it printed\n${indented(output.trim())}`] : [])].join('\n')
}

export function summary(outcomes: readonly Outcome[], ms: number): string {
  const count = (of: (outcome: Outcome) => number): number => outcomes.reduce((sum, outcome) => sum + of(outcome), 0)
  const failed = count((outcome) => outcome.failed.length)
  const skipped = count((outcome) => outcome.skipped.length)
  const total = `${count((outcome) => outcome.passed)} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`

  return [
    '',
    ...list('Failed', outcomes, (outcome) => outcome.failed.map(({ name }) => name)),
    ...list('Failed beside other files, and passed alone', outcomes, ({ failedAtFirst = [] }) =>
      failedAtFirst.map(({ name }) => name),
    ),
    ...list('Skipped', outcomes, (outcome) => outcome.skipped.map(({ name, reason }) => `${name}: ${reason}`)),
    `${outcomes.length} ${outcomes.length === 1 ? 'file' : 'files'} in ${seconds(ms)}`,
    total,
  ].join('\n')
}

function list(title: string, outcomes: readonly Outcome[], linesOf: (outcome: Outcome) => string[]): string[] {
  const lines = outcomes.flatMap((outcome) => linesOf(outcome).map((line) => `  ${outcome.file}: ${line}`))
  return lines.length > 0 ? [`${title}:`, ...lines.sort(), ''] : []
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}

function indented(text: string): string {
  return text.replace(/^(?=.)/gm, '    ')
}
