// How long a silence is: a decision of the time that passes and of the time in which this process was there.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Watchdog } from '../src/watchdog.ts'
import { type FakeClock, fakeClock, setWallClock } from './support/fake-clock.ts'

const hourMs = 3_600_000
const dayMs = 24 * hourMs

/** The waits that a proxy has by default, and a short one. */
const waits = { connectMs: 10_000, responseMs: 120_000, writeMs: 60_000, idleMs: 3_000, short: 100 }

for (const [name, ms] of Object.entries(waits)) {
  test(`a silence of ${ms} ms is one, and none shorter than that (${name})`, async (t) => {
    const { silences } = watched(t, ms)

    assert.deepEqual([await silences(ms - 10), await silences(40)], [0, 1])
  })

  test(`after an hour in which the process was not there a wait of ${ms} ms begins anew (${name})`, async (t) => {
    const { clock, silences } = watched(t, ms)
    clock.pass(ms - 10)

    clock.stall(hourMs)

    assert.deepEqual([await silences(ms), await silences(ms / 4 + 40)], [0, 1])
  })

  for (const [direction, byMs] of [
    ['ahead', dayMs],
    ['back', -dayMs],
  ] as const) {
    test(`a clock that is set ${direction} by a day changes nothing about a wait of ${ms} ms (${name})`, async (t) => {
      const { clock, silences } = watched(t, ms)
      clock.pass(ms / 2)

      setWallClock(t, byMs)

      assert.deepEqual([await silences(ms / 2 - 10), await silences(40)], [0, 1])
    })
  }
}

test('what is read in the turn in which the time is over is no silence', async (t) => {
  const { clock, watchdog, silences } = watched(t, 1_000)

  clock.pass(1_000)
  watchdog.reset()

  assert.equal(await silences(900), 0)
})

test('a sign begins the wait anew, which lasts an eighth longer at most', async (t) => {
  const { clock, watchdog, silences } = watched(t, 1_000)
  clock.pass(800)

  watchdog.reset()

  assert.deepEqual([await silences(990), await silences(145)], [0, 1])
})

test('a watchdog that was stopped in the turn in which its time was over says nothing', async (t) => {
  const { clock, watchdog, silences } = watched(t, 1_000)

  clock.pass(1_000)
  watchdog.stop()

  assert.equal(await silences(5_000), 0)
})

test('a silence that goes on is told after each wait, until the watchdog is stopped', async (t) => {
  const { watchdog, silences } = watched(t, 1_000)

  assert.deepEqual([await silences(1_000), await silences(1_000), await silences(1_000)], [1, 2, 3])
  watchdog.stop()
  assert.equal(await silences(5_000), 3)
})

test('a loop that is late every time does not wait for ever', async (t) => {
  const { clock, silences } = watched(t, 1_000)
  let awakeMs = 0

  while ((await silences(100)) === 0 && awakeMs < 100_000) {
    awakeMs += 100
    clock.stall(600)
  }

  assert.ok(awakeMs < 10_000, `after ${awakeMs} ms`)
})

/** A watchdog, and how often it has told of silence when so much more time has passed. */
function watched(
  t: TestContext,
  ms: number,
): { clock: FakeClock; watchdog: Watchdog; silences: (ms: number) => Promise<number> } {
  const clock = fakeClock(t)
  let told = 0
  const watchdog = new Watchdog(ms, () => {
    told += 1
  })
  t.after(() => watchdog.stop())
  const silences = async (passing: number): Promise<number> => {
    // What is decided at the end of a turn is decided in its own turn.
    for (let left = passing; left > 0; left -= 10) {
      clock.pass(Math.min(left, 10))
      await new Promise(setImmediate)
    }
    return told
  }
  return { clock, watchdog, silences }
}
