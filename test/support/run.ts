// Runs the test files, several at once: those that take long in a process of their own, the others in one for some of them.
//
//   node --import tsx test/support/run.ts [filter ...]
//
// A filter keeps the files whose path contains it; one that starts with "!" leaves such files out. A single file runs
// without this as well: node --import tsx test/check.test.ts
import { readdirSync } from 'node:fs'
import { availableParallelism, constants } from 'node:os'
import { join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runFiles } from './runner/run-files.ts'
import { lineOf, summary } from './runner/summary.ts'
import { endTestProcesses } from './runner/test-process.ts'

const wholeRunMs = 20 * 60_000
const oneProcessMs = 240_000
const filesOfOne = 8
const cores = Math.max(2, availableParallelism())

// The files of a lane are those that are in no lane before it and have one of its names in their path. Those named `alone`
// start first, in this order, so that none of them runs on alone in the end.
const lanes = [
  // Those that wait for most of their time, for time itself or for another program: they run beside those that compute.
  {
    alone: [
      'behaviour/store-parted',
      'package/compilers',
      'redis/failover',
      'behaviour/stalls',
      'behaviour/store-',
      'demo/process',
      'demo/many-nodes',
      'browser/',
      'demo/page',
      'demo/dns',
      'redis/commands',
      'redis/redis-store',
      'redis/faults',
      'redis/traffic',
      'behaviour/slow-client-memory',
      'behaviour/behind-nginx',
      'behaviour/hostile-both',
      'behaviour/callbacks',
      'behaviour/debug-output',
      'behaviour/cluster',
      'runner',
      'guides',
      // Those set the environment of their process, or stay till its end.
      'hosts/',
    ],
    together: ['redis/', 'package/', 'demo/', 'clients/'],
  },
  {
    alone: [
      'nodes/model',
      'behaviour/both-lanes',
      'behaviour/share-replay',
      'over-http2/',
      'behaviour/floods',
      'behaviour/rolling-restart',
      'behaviour/slow-reader',
      'chunk-framer',
      'events/framer',
      'behaviour/byte-exact',
      'behaviour/connect-and-leave',
      'behaviour/many-streams',
      'behaviour/pipelining',
      'behaviour/targets-that',
      'behaviour/resume',
      'behaviour/draining',
      'behaviour/share-limits',
      'behaviour/keepalive',
      'behaviour/silent-streams',
      'behaviour/share-failures',
      'behaviour/sticky',
      'behaviour/on-lost',
      'events/hooks',
    ],
    together: [''],
  },
]

const root = fileURLToPath(new URL('../..', import.meta.url))
const filters = process.argv.slice(2)
const files = matching(testFiles(join(root, 'test')), filters)

if (files.length === 0) {
  console.error(`No test file matches ${filters.join(' ')}`)
  process.exit(1)
}

const stopped = new AbortController()
const deadline = setTimeout(
  () => stop(`The tests are not through after ${wholeRunMs / 60_000} minutes: giving up`, 1),
  wholeRunMs,
)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => stop(`Stopped by ${signal}`, 128 + constants.signals[signal]))
}

const left = new Set(files)
const start = performance.now()
const outcomes = await runFiles({
  root,
  lanes: lanes.map(({ alone, together }) => ({
    processes: [...take(alone).map((name) => [name]), ...inGroups(take(together))],
    atOnce: cores + 1,
  })),
  oneProcessMs,
  onOutcome: (outcome) => console.log(lineOf(outcome)),
  signal: stopped.signal,
})
clearTimeout(deadline)
console.log(summary(outcomes, performance.now() - start))
if (outcomes.some(({ failed }) => failed.length > 0)) process.exitCode ||= 1

function stop(why: string, exitCode: number): void {
  console.error(why)
  process.exitCode = exitCode
  stopped.abort()
  endTestProcesses()
}

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

/** Those that have one of the names in their path, in the order of these, and were not taken before. */
function take(names: readonly string[]): string[] {
  return names.flatMap((name) => {
    const files = [...left].filter((file) => file.includes(name))
    for (const file of files) left.delete(file)
    return files
  })
}

/** So many a process: to start one, load packages and compile what runs often takes longer than most of the files. */
function inGroups(names: readonly string[]): string[][] {
  const count = Math.ceil(names.length / filesOfOne)
  return Array.from({ length: count }, (_, i) => names.slice(i * filesOfOne, (i + 1) * filesOfOne))
}
