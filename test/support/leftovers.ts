// What a test leaves behind in its own process: sockets, timers, warnings. Armed at the start, asked at the end.
import assert from 'node:assert/strict'
import { createHook } from 'node:async_hooks'
import type { TestContext } from 'node:test'
import { inSource } from './runner/source-places.ts'
import { until } from './waiting.ts'

const sockets = /(Socket|Pipe|TLS|Server|Connect)Wrap$/

export interface Leftovers {
  /**
   * Fails when sockets remain, or timers (also those that do not keep the process alive), or when a warning was given
   * (a listener leak is one).
   */
  assertNone(): Promise<void>
}

/** Watches from now on; call it before the servers of the test start and ask after they are closed. */
export function watchLeftovers(t: TestContext): Leftovers {
  const before = openSockets()
  const warnings: string[] = []
  // Where each live timer was made; the text of a stack is costly, so it is asked for only at the end.
  const timers = new Map<number, Error>()

  const noteWarning = (warning: Error): void => {
    if (warning.name !== 'ExperimentalWarning') warnings.push(String(warning))
  }
  const hook = createHook({
    init(id, type) {
      if (type === 'Timeout') timers.set(id, new Error('a timer made here'))
    },
    destroy(id) {
      timers.delete(id)
    },
  }).enable()
  process.on('warning', noteWarning)
  // Not the hook: it must outlive what the test itself closes after its end.
  t.after(() => {
    process.off('warning', noteWarning)
  })

  const remainingTimers = (): string[] =>
    [...timers.values()].map(({ stack = '' }) => inSource(stack)).filter((stack) => !isOfNoConcern(stack))

  return {
    async assertNone() {
      await until(
        () => openSockets() <= before,
        () => `sockets to close: ${process.getActiveResourcesInfo()}`,
      )
      await until(
        () => timers.size < 20 && remainingTimers().length === 0,
        () => `timers to end: ${remainingTimers().slice(0, 5).join('\n')}`,
      )
      hook.disable()
      assert.deepEqual(warnings, [])
    },
  }
}

/** Node keeps the text of the Date header for up to a second, and waiting for the end takes a timer itself. */
function isOfNoConcern(stack: string): boolean {
  // Dates of Node's own, the waits of the tests, and the runner's bound on a test.
  return ['utcDate', 'support/waiting.ts', 'at stopTest (node:internal/test_runner'].some((part) =>
    stack.includes(part),
  )
}

function openSockets(): number {
  return process.getActiveResourcesInfo().filter((name) => sockets.test(name)).length
}
