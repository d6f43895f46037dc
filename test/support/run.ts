// Runs the test files through Node's own runner, which has no glob patterns on Node 20.
//
//   node --import tsx test/support/run.ts [filter ...]
//
// A filter keeps the files whose path contains it; one that starts with "!" leaves such files out.
import { spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { constants } from 'node:os'
import { join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

const wholeRunMs = 20 * 60_000
const oneFileMs = 120_000
const filesAtOnce = 2

const root = fileURLToPath(new URL('../..', import.meta.url))
const files = matching(testFiles(join(root, 'test')), process.argv.slice(2))

if (files.length === 0) {
  console.error(`No test file matches ${process.argv.slice(2).join(' ')}`)
  process.exit(1)
}

// A group of its own, so that whatever the tests have started ends with the runner.
const runner = spawn(
  process.execPath,
  [
    '--import',
    'tsx',
    '--test',
    `--test-concurrency=${filesAtOnce}`,
    `--test-timeout=${oneFileMs}`,
    ...reporter(),
    ...files,
  ],
  { cwd: root, stdio: 'inherit', detached: true },
)

const deadline = setTimeout(() => {
  console.error(`The tests are not through after ${wholeRunMs / 60_000} minutes: giving up`)
  end('SIGKILL')
}, wholeRunMs)

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    end(signal)
    process.exitCode = 128 + constants.signals[signal]
  })
}

runner.once('exit', (code) => {
  clearTimeout(deadline)
  process.exitCode ||= code ?? 1
})

function testFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts') && !name.startsWith(`bench${sep}`))
    .map((name) => relative(root, join(folder, name)).split(sep).join('/'))
    .sort()
}

function matching(names: string[], filters: string[]): string[] {
  const wanted = filters.filter((filter) => !filter.startsWith('!'))
  const unwanted = filters.filter((filter) => filter.startsWith('!')).map((filter) => filter.slice(1))

  return names.filter(
    (name) =>
      (wanted.length === 0 || wanted.some((filter) => name.includes(filter))) &&
      !unwanted.some((filter) => name.includes(filter)),
  )
}

// The same output in a terminal and in a log file (Node 20 writes TAP to the latter).
function reporter(): string[] {
  return ['--test-reporter=spec', '--test-reporter-destination=stdout']
}

function end(signal: NodeJS.Signals): void {
  if (runner.pid === undefined || runner.exitCode !== null) return
  try {
    process.kill(-runner.pid, signal)
  } catch {
    // It has ended by itself in the meantime.
  }
}
