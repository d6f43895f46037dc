// The dashboard and the alert rules: all that they name is exported, Prometheus takes them, and each alert fires when it should.
import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Registry } from 'prom-client'
import { prometheusMetrics } from 'sse-proxy-middleware/prometheus'
import { busyProxy } from '../observe/fake-proxy.ts'
import { readScrape } from '../observe/prometheus-text.ts'
import { freePort } from '../support/ports.ts'
import { proxied } from '../support/proxied.ts'

const run = promisify(execFile)
const file = (name: string) => fileURLToPath(new URL(`../../demo/dashboards/${name}`, import.meta.url))
const rules = readFileSync(file('alerts.yml'), 'utf8')
const board = JSON.parse(readFileSync(file('grafana.json'), 'utf8')) as Board
const expressions = board.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))
const legends = board.panels.flatMap(({ targets = [] }) => targets.map(({ legendFormat }) => legendFormat))
const variables = board.templating.list.flatMap(({ definition = '' }) => definition)
const written = { 'the alert rules': rules, 'the dashboard': [...expressions, ...variables].join('\n') }
const missing = ['prometheus', 'promtool'].every((program) => spawnSync(program, ['--version']).status === 0)
  ? false
  : 'Prometheus is not installed'

for (const [what, text] of Object.entries(written)) {
  test(`${what}: each metric is exported, with the labels that are asked for`, async () => {
    const exported = await exportedLabels()
    const named = [...text.matchAll(/\b(sse_proxy_\w+)(?:\{([^}]*)\})?/g)]

    for (const [, name = '', matchers = ''] of named) {
      const labels = exported.get(name)
      assert.ok(labels, `${name} is exported`)
      for (const [, label = ''] of matchers.matchAll(/(\w+)\s*[=!]/g))
        assert.ok(labels.has(label), `${name} has ${label}`)
    }
    const grouped = [...text.matchAll(/by \(([^)]*)\)/g)].flatMap(([, labels = '']) => labels.split(/,\s*/))
    assertKnown(exported, grouped)
    assert.ok(named.length > 5)
  })
}

test('the dashboard: each legend names labels that there are, and each metric has a panel', async () => {
  const exported = await exportedLabels()
  const shown = expressions.join('\n')

  assertKnown(
    exported,
    legends.flatMap((legend) => [...legend.matchAll(/\{\{(\w+)\}\}/g)].map(([, label = '']) => label)),
  )
  const families = [...exported.keys()].map((name) => name.replace(/_(bucket|sum|count)$/, ''))
  assert.deepEqual(
    families.filter((name) => !shown.includes(name)),
    [],
  )
})

test('the alert rules: promtool finds nothing wrong', { skip: missing }, async () => {
  await run('promtool', ['check', 'rules', '--lint-fatal', file('alerts.yml')])
})

test('the alert rules: each fires when its trouble lasts, and none where all is well', { skip: missing }, async (t) => {
  const folder = await temporary(t)
  const names = [...rules.matchAll(/alert: (\w+)/g)].map(([, name = '']) => name)
  const world = (is: Record<string, string>, alerts: readonly string[]) => ({
    interval: '30s',
    input_series: Object.entries({ ...well, ...is }).map(([series, values]) => ({ series, values })),
    promql_expr_test: [
      {
        expr: 'count by (alertname) (ALERTS{alertstate="firing"})',
        eval_time: '20m',
        exp_samples: alerts.map((alert) => ({ labels: `{alertname="${alert}"}`, value: 1 })),
      },
    ],
  })
  const tests = [world({}, []), world(trouble, names)]
  // All that is JSON is YAML.
  const text = JSON.stringify({ rule_files: [file('alerts.yml')], evaluation_interval: '30s', tests })
  await writeFile(join(folder, 'tests.yml'), text)

  await run('promtool', ['test', 'rules', join(folder, 'tests.yml')])
})

test('a Prometheus that scrapes a proxy answers all that the dashboard asks, and evaluates the rules', {
  skip: missing,
}, async (t) => {
  const { proxy, upstream, front } = await proxied(t, { name: 'feed', share: { lingerMs: 0 } })
  const registry = new Registry()
  prometheusMetrics(proxy, { registry })
  const { ask } = await prometheus(t, await served(t, registry))
  const client = front.request()
  ;(await upstream.next()).stream().send({ data: 'one' })
  await client.waitFor('data: one\n\n')

  await eventually(async () => (await valuesOf(ask, 'sum(sse_proxy_streams_active)')).join() === '1', 'a scrape')
  const open = board.panels.find(({ title }) => title === 'Open streams')?.targets?.[0]?.expr ?? ''
  assert.deepEqual(await valuesOf(ask, open), ['1'])
  for (const expression of expressions) await valuesOf(ask, expression)
  await eventually(async () => {
    const { groups } = (await ask('rules')) as { groups: { rules: { health: string; lastError?: string }[] }[] }
    const all = groups.flatMap((group) => group.rules)
    for (const { lastError } of all) assert.equal(lastError, undefined)
    return all.length === 7 && all.every(({ health }) => health === 'ok')
  }, 'the rules')
})

interface Board {
  panels: { title: string; targets?: { expr: string; legendFormat: string }[] }[]
  templating: { list: { definition?: string }[] }
}

const lost = 'sse_proxy_streams_closed_total{proxy="a",reason="upstream-lost"}'
const first = (le: string) => `sse_proxy_time_to_first_event_seconds_bucket{proxy="a",le="${le}"}`
const well = {
  'sse_proxy_upstream_healthy{proxy="a",upstream="http://one"}': '1x60',
  'sse_proxy_streams_closed_total{proxy="a",reason="client-left"}': '0+100x60',
  'sse_proxy_streams_closed_total{proxy="a",reason="hook-failed"}': '0x60',
  [lost]: '0+1x60',
  'sse_proxy_refused_total{proxy="a",reason="full"}': '3x60',
  'sse_proxy_refused_total{proxy="a",reason="draining"}': '0+1x60',
  [first('0.1')]: '0+10x60',
  [first('10')]: '0+10x60',
  [first('+Inf')]: '0+10x60',
  'sse_proxy_store_up{proxy="a",instance="one"}': '1x60',
}
const trouble = {
  'sse_proxy_upstream_healthy{proxy="a",upstream="http://one"}': '0x60',
  'sse_proxy_streams_closed_total{proxy="a",reason="hook-failed"}': '0+1x60',
  [lost]: '0+10x60',
  'sse_proxy_refused_total{proxy="a",reason="full"}': '0+1x60',
  [first('0.1')]: '0x60',
  'sse_proxy_store_up{proxy="a",instance="one"}': '0x60',
}

/** The names of all series, each with its labels. */
async function exportedLabels(): Promise<Map<string, Set<string>>> {
  const registry = new Registry()
  prometheusMetrics(busyProxy('a'), { registry })
  const labels = new Map<string, Set<string>>()
  for (const { series } of readScrape(await registry.metrics()).families.values()) {
    for (const one of series)
      labels.set(one.name, new Set([...(labels.get(one.name) ?? []), ...Object.keys(one.labels)]))
  }
  return labels
}

function assertKnown(exported: ReadonlyMap<string, ReadonlySet<string>>, labels: readonly string[]): void {
  const known = new Set(['instance', ...[...exported.values()].flatMap((names) => [...names])])
  for (const label of labels) assert.ok(known.has(label), `there is a label ${label}`)
}

async function temporary(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'prometheus-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** Serves the metrics; returns host and port. */
async function served(t: TestContext, registry: Registry): Promise<string> {
  const server = createServer(async (_req, res) => {
    res.setHeader('content-type', registry.contentType)
    res.end(await registry.metrics())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

type Ask = (path: string) => Promise<unknown>

/** A Prometheus of its own that scrapes this address. */
async function prometheus(t: TestContext, target: string): Promise<{ ask: Ask }> {
  const folder = await temporary(t)
  const port = await freePort()
  const config = {
    global: { scrape_interval: '200ms', scrape_timeout: '200ms', evaluation_interval: '200ms' },
    rule_files: [file('alerts.yml')],
    scrape_configs: [{ job_name: 'proxy', static_configs: [{ targets: [target] }] }],
  }
  await writeFile(join(folder, 'config.yml'), JSON.stringify(config))
  const args = [
    `--config.file=${join(folder, 'config.yml')}`,
    `--storage.tsdb.path=${join(folder, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
    '--log.level=error',
  ]
  const server: ChildProcess = spawn('prometheus', args, { stdio: 'ignore' })
  t.after(async () => {
    if (server.exitCode !== null) return
    const exited = once(server, 'exit')
    server.kill('SIGKILL')
    await exited
  })
  const ask = async (path: string) => {
    const answer = await fetch(`http://127.0.0.1:${port}/api/v1/${path}`)
    const { status, data, error } = (await answer.json()) as { status: string; data: unknown; error?: string }
    assert.equal(status, 'success', `${path}: ${error}`)
    return data
  }
  await eventually(() => ask('rules').then(Boolean, () => false), 'Prometheus to answer')
  return { ask }
}

/** What an expression of the dashboard comes to now. */
async function valuesOf(ask: Ask, expression: string): Promise<string[]> {
  const query = expression.replaceAll('$__rate_interval', '5s').replaceAll('$proxy', '.*')
  const { result } = (await ask(`query?query=${encodeURIComponent(query)}`)) as {
    result: { value: [number, string] }[]
  }
  return result.map(({ value: [, text] }) => text)
}

/** Asks again and again: Prometheus tells of nothing by itself. */
async function eventually(isSo: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + 15_000
  while (!(await isSo())) assert.ok(Date.now() < deadline, `waited for ${what}`)
}
