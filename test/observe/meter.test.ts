import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HistogramSnapshot } from '../../src/observe/histogram.ts'
import { Meter } from '../../src/observe/meter.ts'
import { Stats } from '../../src/observe/stats.ts'
import { bytesAllocated } from './allocation.ts'

const nothingOpen = { active: 0, upstreams: [], shared: { streams: 0, clients: 0, unread: 0, kept: 0 } }

test('what passes through several streams adds up', () => {
  const stats = new Stats('feed')
  const [one, other] = [new Meter(stats, 0), new Meter(stats, 0)]

  one.received(120, 2)
  one.sent(2)
  one.wrote(110)
  other.received(30, 1)
  other.wrote(13)
  other.keptAlive()

  const { bytesIn, eventsIn, bytesOut, eventsOut, keepalives } = stats.snapshot(nothingOpen)
  assert.deepEqual(
    { bytesIn, eventsIn, bytesOut, eventsOut, keepalives },
    {
      bytesIn: 150,
      eventsIn: 3,
      bytesOut: 123,
      eventsOut: 2,
      keepalives: 1,
    },
  )
})

test('the first event is timed from the request, each later one from the one before', () => {
  const stats = new Stats('feed')
  const meter = new Meter(stats, 1000)

  meter.timed(1, 1250)
  meter.timed(1, 3250)

  assert.deepEqual(countAndSum(stats.snapshot(nothingOpen).timeToFirstEventSeconds), [1, 0.25])
  assert.deepEqual(countAndSum(stats.snapshot(nothingOpen).eventGapSeconds), [1, 2])
})

test('between events that came together there was no silence', () => {
  const stats = new Stats('feed')
  const meter = new Meter(stats, 1000)

  meter.timed(3, 1500)
  meter.timed(2, 2500)

  assert.deepEqual(countAndSum(stats.snapshot(nothingOpen).timeToFirstEventSeconds), [1, 0.5])
  assert.deepEqual(countAndSum(stats.snapshot(nothingOpen).eventGapSeconds), [4, 1])
})

test('bytes that complete no event end no silence', () => {
  const stats = new Stats('feed')
  const meter = new Meter(stats, 1000)

  meter.timed(0, 1500)
  meter.timed(1, 3000)

  assert.deepEqual(countAndSum(stats.snapshot(nothingOpen).timeToFirstEventSeconds), [1, 2])
})

test('counting an event allocates nothing, also where the numbers are large', () => {
  const stats = new Stats('feed')
  stats.bytesIn = 2 ** 40
  const meter = new Meter(stats, 0)
  let now = 0

  const bytes = bytesAllocated(() => {
    now += 20
    meter.received(120, 1)
    meter.timed(1, now)
    meter.sent(1)
    meter.wrote(120)
  })

  assert.ok(bytes < 1, `${bytes} bytes for each event`)
})

function countAndSum({ count, sum }: HistogramSnapshot): number[] {
  return [count, sum]
}
