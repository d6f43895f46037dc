// What a test leaves behind in its own process: sockets, timers, warnings. Armed at the start, asked at the end.
import assert from 'node:assert/strict'
import { createHook } from 'node:async_hooks'
import type { TestContext } from 'node:test'
import { until } from './waiting.ts'

const sockets = /(Socket|Pipe|TLS|Server|Connect)Wrap$/

export interface Leftovers {
  /** Live timers that were made since the watch began, those that do not keep the process alive included. */
  readonly timers: number
  /** Fails when sockets or timers remain, or when a warning was given (a listener leak is one). */
  assertNone(): Promise<void>
}

/** Watches from now on; call it before the servers of the test start and ask after they are closed. */
export function watchLeftovers(t: TestContext): Leftovers {
  const before = openSockets()
  const warnings: string[] = []
  const timers = new Map<number, string>()

  const noteWarning = (warning: Error): void => {
    if (warning.name !== 'ExperimentalWarning') warnings.push(String(warning))
  }
  const hook = createHook({
    init(id, type) {
      if (type !== 'Timeout') return
      const { stack = '' } = new Error('a timer made here')
      // Node keeps the text of the Date header for up to a second.
      if (!stack.includes('utcDate')) timers.set(id, stack)
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

  return {
    get timers() {
      return timers.size
    },
    async assertNone() {
      await until(
        () => openSockets() <= before,
        () => `sockets to close: ${process.getActiveResourcesInfo()}`,
      )
      // The wait itself runs on a timer, the one that may remain.
      await until(
        () => timers.size <= 1,
        () => `timers to end: ${[...timers.values()].join('\n')}`,
      )
      hook.disable()
      assert.deepEqual(warnings, [])
    },
  }
}

function openSockets(): number {
  return process.getActiveResourcesInfo().filter((name) => sockets.test(name)).length
}
