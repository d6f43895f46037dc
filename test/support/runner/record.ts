// A reporter of Node's test runner, inside the process of one test file: writes what became of each test, a line of JSON
// each, for the process that started it. The last line is missing when the file ended before its tests did.
import type { TestEvent } from 'node:test/reporters'
import { inspect } from 'node:util'

type Ending = Extract<TestEvent, { type: 'test:pass' | 'test:fail' }>

export type Entry =
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

  for await (const event of events) {
    if (event.type === 'test:dequeue') yield line({ kind: 'started', name: nested(running, event.data) })
    else if (event.type === 'test:diagnostic') {
      const { message } = event.data
      if (message.includes('asynchronous activity')) yield line({ kind: 'uncaught', error: message })
    } else if (event.type === 'test:start') nested(told, event.data)
    else if (event.type === 'test:pass' || event.type === 'test:fail') {
      const entry = ending(event, nested(told, event.data))
      if (entry) yield line(entry)
    }
  }
  const { user, system } = process.cpuUsage()
  yield line({ kind: 'through', cpuMs: (user + system) / 1000 })
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
  return { kind: 'failed', name, error: inspect(error.cause ?? error) }
}

function line(entry: Entry): string {
  return `${JSON.stringify(entry)}\n`
}
