// The tests that others run on stores of their own: a store over a database passes, and each rule is one that a store can break.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { storeTests } from '../../src/store-tests.ts'
import { brokenStores } from '../support/broken-stores.ts'
import { scriptOf } from '../support/processes/child.ts'
import { TableStore, Tables } from '../support/table-store.ts'

storeTests('a store in tables', () => {
  const tables = new Tables()
  return { stores: [new TableStore(tables), new TableStore(tables)] }
})

test('a store that breaks a rule fails the test of that rule, and there is one for each test', async () => {
  const results = resultsOf(await report())

  for (const { name, fails } of brokenStores) assert.ok(results.get(name)?.failed.includes(fails), `${name}: ${fails}`)
  const rules = [...results.values()].flatMap(({ all }) => all)
  assert.deepEqual(new Set(brokenStores.map(({ fails }) => fails)), new Set(rules))
})

interface Results {
  all: string[]
  failed: string[]
}

/** What node:test says of the stores, as TAP. */
function report(): Promise<string> {
  const { path, execArgv } = scriptOf('broken-stores.ts')
  // Else it would report to a runner.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  return new Promise((resolve) => {
    const args = [...execArgv, '--test-reporter=tap', path]
    execFile(process.execPath, args, { env, timeout: 60_000, maxBuffer: 1e8 }, (_error, stdout) => resolve(stdout))
  })
}

/** By store; the line of a suite comes behind those of its tests, which are further in. */
function resultsOf(tap: string): Map<string, Results> {
  const results = new Map<string, Results>()
  let current: Results = { all: [], failed: [] }
  for (const [, indent = '', failed, name = ''] of tap.matchAll(/^( *)(not )?ok \d+ - (.*)$/gm)) {
    if (indent.length === 8) {
      current.all.push(name)
      if (failed) current.failed.push(name)
    } else if (indent.length === 4) {
      results.set(name, current)
      current = { all: [], failed: [] }
    }
  }
  return results
}
