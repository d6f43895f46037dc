// A reporter of Node's test runner, inside a process that runs test files: writes where a file begins and what became of
// each test, a line of JSON each, for the process that started it. The last line is missing when it ended before its tests
// did.
import type { TestEvent } from 'node:test/reporters'
import { inspect } from 'node:util'
import { inSource } from './source-places.ts'

type Ending = Extract<TestEvent, { type: 'test:pass' | 'test:fail' }>

export type Entry =
  | { kind: 'file'; cpuMs: number; ms: number }
  | { kind: 'started' | 'passed'; name: string }
  | { kind: 'failed'; name: string; error: string }
  | { kind: 'skipped'; name: string; reason: string }
  | { kind: 'uncaught'; error: string }
  | { kind: 'through'; cpuMs: number }

// biome-ignore lint/style/noDefaultExport: Node takes a reporter from there
export default async function* record(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  // The names of the tests around the one that runs, and around the one that is told of: a suite is told of at its end.
  const running: string[] = []
  const told: string[] = []
  const files = new Set(process.argv.slice(2))

  for await (const event of events) {
    if (event.data !== undefined && 'name' in event.data && files.has(event.data.name)) {
      // The test that stands before those of a file, and fails where the file cannot be loaded.
      if (event.type === 'test:dequeue') yield line({ kind: 'file', cpuMs: cpuMs(), ms: performance.now() })
      if (event.type === 'test:fail') yield line(failure(event.data.details.error, 'it could not be loaded'))
    } else if (event.type === 'test:dequeue') yield line({ kind: 'started', name: nested(running, event.data) })
    else if (event.type === 'test:diagnostic') {
      const { message } = event.data
      if (message.includes('asynchronous activity')) yield line({ kind: 'uncaught', error: inSource(message) })
    } else if (event.type === 'test:start') nested(told, event.data)
    else if (event.type === 'test:pass' || event.type === 'test:fail') {
      const entry = ending(event, nested(told, event.data))
      if (entry) yield line(entry)
    }
  }
  yield line({ kind: 'through', cpuMs: cpuMs() })
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

/** The whole name of a test, which becomes the innermost of `names`. */
function nested(names: string[], { name, nesting }: { name: string; nesting: number }): string {
  names.splice(nesting, names.length, name)
  return names.join(' > ')
}

/** What became of a test. A suite is none, but what fails in its hooks stands nowhere else. */
function ending({ type, data }: Ending, name: string): Entry | undefined {
  const isSuite = data.details.type === 'suite'
  const { skip = false, todo = false } = data
  if (skip !== false) {
    return isSuite ? undefined : { kind: 'skipped', name, reason: skip === true ? 'no reason is given' : skip }
  }
  if (todo !== false) return { kind: 'skipped', name, reason: todo === true ? 'still to do' : `still to do: ${todo}` }
  if (type === 'test:pass') return isSuite ? undefined : { kind: 'passed', name }

  const { error } = data.details
  const isInside = 'failureType' in error && error.failureType === 'subtestsFailed'
  if (isInside) return isSuite ? undefined : { kind: 'failed', name, error: 'a test inside it failed' }
  return failure(error, name)
}

function failure(error: Error, name: string): Entry {
  return { kind: 'failed', name, error: inSource(inspect(error.cause ?? error)) }
}

function line(entry: Entry): string {
  return `${JSON.stringify(entry)}\n`
}
