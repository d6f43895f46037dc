// What the benchmark makes of bytes and figures: an instrument that reads them wrong would go unnoticed.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ChunkReader } from './bench/load/chunks.ts'
import { EventCounter } from './bench/load/client.ts'
import { EventTemplate } from './bench/load/events.ts'
import type { Figures } from './bench/load/load.ts'
import { type Result, toMarkdown } from './bench/report.ts'

function markdown(results: readonly Result[]): string {
  return toMarkdown({ date: 'today', node: 'v0', cpu: 'one', rounds: 3, pinned: true, skipped: [], results })
}

/** The row of a contender in the first table that has one. */
function row(contender: string, text: string): string | undefined {
  return text.split('\n').find((line) => line.startsWith(`| ${contender} |`))
}

function result(contender: string, run: string, figures: Figures, round = 0): Result {
  return { contender, run, figures, round }
}

describe('the report of the benchmark', () => {
  it('shows medians over the rounds, and ratios to piping', () => {
    const text = markdown([
      ...[10_000, 30_000, 20_000].map((perSecond, i) => result('pipe', 'large', { perSecond, eventBytes: 1e3 }, i)),
      ...[11_000, 10_000, 9_000].map((perSecond, i) => result('nginx', 'large', { perSecond, eventBytes: 1e3 }, i)),
    ])

    assert.equal(row('pipe', text), '| pipe | 20 |')
    assert.equal(row('nginx', text), '| nginx | 10 (×0.50) |')
  })

  it('takes the direct latency off that of others, and shows it in its own row', () => {
    const text = markdown([
      result('direct', 'latency-1', { p50: 100, p90: 100, p99: 100 }),
      result('pipe', 'latency-1', { p50: 150, p90: 160, p99: 170 }),
    ])

    assert.match(row('direct', text) ?? '', /^\| direct \| 100 \| 100 \| 100 \|/)
    assert.match(row('pipe', text) ?? '', /^\| pipe \| 50 \| 60 \| 70 \|/)
  })

  it('leaves out what was disturbed where the same was measured undisturbed', () => {
    const text = markdown([
      result('pipe', 'large', { perSecond: 1_000, eventBytes: 1e3, waitPct: 40 }, 0),
      result('pipe', 'large', { perSecond: 2_000, eventBytes: 1e3, loadWaitPct: 40 }, 1),
      result('pipe', 'large', { perSecond: 5_000, eventBytes: 1e3, waitPct: 1, loadWaitPct: 1 }, 2),
    ])

    assert.equal(row('pipe', text), '| pipe | 5 |')
    assert.match(text, /In 2 of 3 runs/)
  })

  it('marks what was never measured undisturbed', () => {
    const text = markdown([result('pipe', 'large', { perSecond: 5_000, eventBytes: 1e3, loadWaitPct: 40 })])

    assert.equal(row('pipe', text), '| pipe | ~5 |')
    assert.match(text, /^~: /m)
  })

  it('says where the load generator may have been the limit', () => {
    const text = markdown([
      result('direct', 'large', { perSecond: 15_000, eventBytes: 1e3 }),
      result('pipe', 'large', { perSecond: 10_000, eventBytes: 1e3, cpuPct: 99 }),
      result('nginx', 'large', { perSecond: 5_000, eventBytes: 1e3, cpuPct: 50 }),
    ])

    assert.equal(row('pipe', text), '| pipe | 10‡ |')
    assert.equal(row('nginx', text), '| nginx | 5† (×0.50) |')
    assert.match(text, /^‡: /m)
    assert.match(text, /^†: /m)
  })

  it('marks what falls short of what is due only where the direct connection does as well', () => {
    const text = markdown([
      result('direct', 'fan-out-5000', { perSecond: 80_000 }),
      result('pipe', 'fan-out-5000', { perSecond: 40_000 }),
      result('sse-proxy:share', 'fan-out-5000', { perSecond: 100_000 }),
    ])

    assert.match(row('pipe', text) ?? '', /\| 40000‡ \|/)
    assert.match(row('sse-proxy:share', text) ?? '', /\| 100000 \(×2\.50\) \|/)
  })

  it('compares what stands in another server with piping in that', () => {
    const text = markdown([
      result('pipe', 'hosts-large', { perSecond: 90_000, eventBytes: 1e3 }),
      result('pipe:compression', 'hosts-large', { perSecond: 10_000, eventBytes: 1e3 }),
      result('sse-proxy:compression', 'hosts-large', { perSecond: 20_000, eventBytes: 1e3 }),
    ])

    assert.equal(row('pipe:compression', text), '| pipe:compression | 10 | – |')
    assert.equal(row('sse-proxy:compression', text), '| sse-proxy:compression | 20 (×2.00) | – |')
  })

  it('tells of streams that were lost', () => {
    assert.match(markdown([result('pipe', 'large', { perSecond: 1, lost: 3 })]), /lost: large, pipe \(3\)/)
  })
})

describe('the reader of the benchmark', () => {
  it('finds the same events and times however the bytes are split', () => {
    const event = new EventTemplate(60)
    const bytes = Buffer.concat([event.at(12.5), event.at(13.5), Buffer.from('2\r\n:\n\r\n'), Buffer.from('0\r\n\r\n')])

    for (let size = 1; size <= bytes.length; size++) {
      const times: number[] = []
      const counter = new EventCounter((time) => times.push(time))
      const reader = new ChunkReader()
      for (let at = 0; at < bytes.length; at += size) {
        reader.read(bytes, at, Math.min(bytes.length, at + size), counter)
      }

      assert.deepEqual(times, [12.5, 13.5])
      assert.equal(counter.latestBytes, event.bytes)
      assert.ok(reader.isEnded)
    }
  })
})
