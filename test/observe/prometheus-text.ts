// A reader of Prometheus' text format that takes nothing but what the format allows, and checks what a scraper would
// trip over: order, escapes, series that come twice, buckets that do not add up.
import assert from 'node:assert/strict'

export interface Series {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

export interface Family {
  readonly name: string
  readonly help: string
  readonly type: string
  readonly series: Series[]
}

export interface Scrape {
  readonly families: ReadonlyMap<string, Family>
  /** The number of the one series with this name and these labels. */
  value(name: string, labels?: Record<string, string>): number
}

export function readScrape(text: string): Scrape {
  assert.ok(text.endsWith('\n'), 'the last line has an end')
  const families = readFamilies(text.split('\n').slice(0, -1))
  const series = [...families.values()].flatMap((family) => family.series)
  const values = new Map(series.map((one) => [key(one.name, one.labels), one.value]))
  assert.equal(values.size, series.length, 'no series comes twice')
  for (const family of families.values()) checkFamily(family)
  return {
    families,
    value(name, labels = {}) {
      const value = values.get(key(name, labels))
      assert.ok(value !== undefined, `there is ${key(name, labels)}`)
      return value
    },
  }
}

function readFamilies(lines: string[]): Map<string, Family> {
  const families = new Map<string, Family>()
  let current: Family | undefined
  let help: RegExpExecArray | undefined
  for (const line of lines) {
    if (line === '') continue
    const type = /^# TYPE ([a-zA-Z_:][\w:]*) (counter|gauge|histogram|summary|untyped)$/.exec(line)
    if (type) {
      const name = type[1]!
      assert.equal(help?.[1], name, `HELP stands before TYPE of ${name}`)
      assert.ok(!families.has(name), `${name} comes once`)
      current = { name, help: unescaped(help![2]!, /\\[\\n]/g), type: type[2]!, series: [] }
      families.set(name, current)
      help = undefined
    } else if (line.startsWith('#')) {
      help = /^# HELP ([a-zA-Z_:][\w:]*) (.+)$/.exec(line) ?? assert.fail(`not a HELP line: ${line}`)
    } else {
      assert.ok(current && !help, `a series before its TYPE: ${line}`)
      current.series.push(readSeries(line))
    }
  }
  return families
}

function readSeries(line: string): Series {
  const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? assert.fail(`not a series: ${line}`)
  return { name: match[1]!, labels: readLabels(match[2] ?? '', line), value: readNumber(match[3]!) }
}

function readLabels(text: string, line: string): Record<string, string> {
  const labels: Record<string, string> = {}
  const label = /([a-zA-Z_]\w*)="((?:[^"\\]|\\[\\"n])*)"(,|$)/y
  while (label.lastIndex < text.length) {
    const match = label.exec(text) ?? assert.fail(`not labels: ${line}`)
    assert.ok(!Object.hasOwn(labels, match[1]!), `a label comes twice: ${line}`)
    labels[match[1]!] = unescaped(match[2]!, /\\[\\"n]/g)
  }
  return labels
}

function unescaped(text: string, escapes: RegExp): string {
  return text.replace(escapes, (pair) => (pair === '\\n' ? '\n' : pair.slice(1)))
}

function readNumber(text: string): number {
  if (text === '+Inf') return Number.POSITIVE_INFINITY
  assert.match(text, /^-?\d+(\.\d+)?(e[+-]?\d+)?$/)
  return Number(text)
}

function checkFamily({ name, help, type, series }: Family): void {
  assert.notEqual(help, '')
  if (type === 'histogram') return checkHistogram(name, series)
  for (const one of series) assert.equal(one.name, name)
  if (type !== 'counter') return
  assert.match(name, /_total$/)
  for (const one of series) assert.ok(one.value >= 0)
}

function checkHistogram(name: string, series: readonly Series[]): void {
  const byLabels = new Map<string, Series[]>()
  for (const one of series) {
    const { le: _le, ...labels } = one.labels
    const group = byLabels.get(key('', labels)) ?? []
    byLabels.set(key('', labels), [...group, one])
  }
  for (const group of byLabels.values()) {
    const buckets = group.filter((one) => one.name === `${name}_bucket`)
    const bounds = buckets.map((bucket) => readNumber(bucket.labels.le!))
    const counts = buckets.map((bucket) => bucket.value)
    const [sum, count, ...more] = group.slice(buckets.length)
    assert.deepEqual(bounds, [...new Set(bounds)].sort(ascending), `${name}: bounds ascend`)
    assert.equal(bounds.at(-1), Number.POSITIVE_INFINITY)
    assert.deepEqual(counts, [...counts].sort(ascending), `${name}: counts never fall`)
    assert.equal(sum?.name, `${name}_sum`)
    assert.equal(count?.name, `${name}_count`)
    assert.equal(count?.value, counts.at(-1))
    assert.deepEqual(more, [])
  }
}

function ascending(a: number, b: number): number {
  return a - b
}

function key(name: string, labels: Readonly<Record<string, string>>): string {
  return name + JSON.stringify(Object.entries(labels).sort())
}
