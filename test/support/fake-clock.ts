// A clock that only the test moves: timers, what measures durations, and the wall clock.
import type { TestContext } from 'node:test'

const stepMs = 5

export interface FakeClock {
  /** Time passes, and whatever is due meanwhile happens in its turn. */
  pass(ms: number): void
  /** Time passes while the process is not there: whatever is due in it happens later than that. */
  stall(ms: number): void
  /** Time passes until the promise has settled, a little in each turn of the event loop. */
  passUntil<T>(promise: Promise<T>): Promise<T>
}

/** For the time of a test, and not for what it has to clean up from here on; `setImmediate` stays as it is. */
export function fakeClock(t: TestContext): FakeClock {
  // Whole, so that a sum of steps is exact.
  let now = Math.ceil(performance.now())
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: Date.now() })
  t.mock.method(performance, 'now', () => now)
  t.after(() => t.mock.reset())
  const pass = (ms: number): void => {
    for (let left = ms; left > 0; left -= stepMs) {
      now += Math.min(left, stepMs)
      t.mock.timers.tick(Math.min(left, stepMs))
    }
  }
  return {
    pass,
    stall(ms) {
      now += ms
    },
    async passUntil(promise) {
      let isSettled = false
      const settled = promise.finally(() => {
        isSettled = true
      })
      settled.catch(() => {})
      while (!isSettled) {
        pass(stepMs)
        await new Promise(setImmediate)
      }
      return await settled
    },
  }
}

/** Someone sets the clock of the machine, for the time of a test: time goes on, but from somewhere else. */
export function setWallClock(t: TestContext, byMs: number): void {
  const { now } = Date
  t.mock.method(Date, 'now', () => now() + byMs)
}
