// A clock that only the test moves: timers, what measures durations, and the wall clock.
import type { TestContext } from 'node:test'

const stepMs = 5

export interface FakeClock {
  /** Time passes, and whatever is due meanwhile happens in its turn. */
  pass(ms: number): void
  /** Time passes while the process is not there: whatever is due in it happens later than that. */
  stall(ms: number): void
}

/** For the time of a test; `setImmediate` stays as it is. */
export function fakeClock(t: TestContext): FakeClock {
  let now = performance.now()
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: Date.now() })
  t.mock.method(performance, 'now', () => now)
  return {
    pass(ms) {
      for (let left = ms; left > 0; left -= stepMs) {
        now += Math.min(left, stepMs)
        t.mock.timers.tick(Math.min(left, stepMs))
      }
    },
    stall(ms) {
      now += ms
    },
  }
}

/** Someone sets the clock of the machine, for the time of a test: time goes on, but from somewhere else. */
export function setWallClock(t: TestContext, byMs: number): void {
  const { now } = Date
  t.mock.method(Date, 'now', () => now() + byMs)
}
