// Four processes behind one port: a client finds its upstream through any of them, the metrics add up, and when one
// process is killed its clients lose nothing while the others' feel nothing.
import assert from 'node:assert/strict'
import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import { type TestContext, test } from 'node:test'
import { AggregatorRegistry } from 'prom-client'
import { readScrape, type Scrape } from '../observe/prometheus-text.ts'
import { freePort } from '../support/ports.ts'
import { scriptOf } from '../support/processes/child.ts'
import { NumberedReader, numberAfter, numberedEvent } from '../support/processes/numbered-events.ts'
import { type Exchange, startUpstream, type Upstream } from '../support/upstream.ts'
import { until, within } from '../support/waiting.ts'

const clientCount = 80

test('of four workers one is killed under load, and nobody loses an event', async (t) => {
  const clients = startClients(t)
  const upstreams = await Promise.all([1, 2, 3].map(() => startNumbered(t)))
  const { port, workers } = await startCluster(t, upstreams)
  for (let index = 0; index < clientCount; index += 1) clients.push(new Reconnecting(port, `user-${index % 20}`))
  await Promise.all(clients.map((client) => client.reaches(5)))

  const victim = workers.find(({ process: { pid } }) => `${pid}` === clients[0]!.worker)!
  const servedBy = (pid: number | undefined): Reconnecting[] => clients.filter(({ worker }) => worker === `${pid}`)
  const theirs = servedBy(victim.process.pid)
  const others = clients.filter((client) => !theirs.includes(client))
  const before = await scrape()
  victim.process.kill('SIGKILL')
  await Promise.all(theirs.map((client) => client.isBack()))
  await Promise.all(clients.map((client) => client.reaches(client.reader.last + 20)))
  await until(() => upstreams.reduce((sum, { open }) => sum + open, 0) === clientCount, 'the upstreams to be freed')
  const after = await scrape()

  t.diagnostic(`${theirs.length} of ${clientCount} clients were on the worker that was killed`)
  assert.ok(theirs.length > 0 && others.length > 0)
  for (const { reader, connections } of clients) {
    assert.deepEqual(reader.tally, { lost: 0, doubled: 0, damaged: 0 })
    assert.ok(connections <= 2)
  }
  assert.ok(theirs.every(({ connections }) => connections === 2))
  assert.ok(others.every(({ connections }) => connections === 1))
  assert.equal(before.value('sse_proxy_streams_active', { proxy: 'feed' }), clientCount)
  assert.equal(after.value('sse_proxy_streams_active', { proxy: 'feed' }), clientCount)
  assert.equal(after.value('sse_proxy_streams_opened_total', { proxy: 'feed' }), clientCount)
  const requests = upstreams.map(({ url }) =>
    after.value('sse_proxy_upstream_requests_total', { proxy: 'feed', upstream: url }),
  )
  assert.equal(
    requests.reduce((sum, count) => sum + count),
    clientCount,
  )
})

test('whichever worker a client meets, it is led to the same upstream', async (t) => {
  const clients = startClients(t)
  const upstreams = await Promise.all([1, 2, 3].map(() => startNumbered(t)))
  const { port } = await startCluster(t, upstreams)

  for (let index = 0; index < clientCount; index += 1) clients.push(new Reconnecting(port, `user-${index % 16}`))
  await Promise.all(clients.map((client) => client.reaches(2)))

  const homes = new Map<string, Set<string>>()
  const workersOf = new Map<string, Set<string>>()
  for (const { user, home, worker } of clients) {
    homes.set(user, (homes.get(user) ?? new Set()).add(home))
    workersOf.set(user, (workersOf.get(user) ?? new Set()).add(worker))
  }
  for (const [user, all] of homes) assert.equal(all.size, 1, `${user} at ${[...all]}`)
  assert.ok(
    [...workersOf.values()].some((all) => all.size > 1),
    'users met several workers',
  )
  assert.ok(new Set(clients.map(({ home }) => home)).size > 1, 'there are several homes')
})

/** Clients that leave before anything else ends: a connection on its way to a worker that dies would stay for ever. */
function startClients(t: TestContext): Reconnecting[] {
  const clients: Reconnecting[] = []
  t.after(async () => {
    await Promise.all(clients.map((client) => client.leave()))
  })
  return clients
}

/** A client as a page has it: comes back when its stream is over, with the last id it knows. */
class Reconnecting {
  readonly reader = new NumberedReader()
  readonly user: string
  connections = 0
  worker = ''
  home = ''
  readonly #port: number
  readonly #agent = new Agent({ keepAlive: false })
  #res: IncomingMessage | undefined
  #hasLeft = false

  constructor(port: number, user: string) {
    this.#port = port
    this.user = user
    this.#connect()
  }

  async reaches(number: number): Promise<void> {
    await until(
      () => this.reader.last >= number,
      () => `event ${number} of ${this.user}, got ${this.reader.last}`,
      30_000,
    )
  }

  async isBack(): Promise<void> {
    await until(() => this.connections > 1 && this.#res !== undefined, `${this.user} to be back`)
  }

  async leave(): Promise<void> {
    this.#hasLeft = true
    const res = this.#res
    if (!res || res.closed) return
    const closed = once(res, 'close')
    res.destroy()
    await closed
  }

  #connect(): void {
    if (this.#hasLeft) return
    const { last } = this.reader
    const headers = { 'x-user': this.user, ...(last > 0 && { 'last-event-id': `${last}` }) }
    const again = (): void => {
      this.#res = undefined
      this.reader.restart()
      if (!this.#hasLeft) setTimeout(() => this.#connect(), 20)
    }
    const outgoing = request({ port: this.#port, host: '127.0.0.1', path: '/', headers, agent: this.#agent })
    outgoing.on('error', () => this.#res ?? again())
    outgoing.on('response', (res) => {
      this.#res = res
      this.connections += 1
      this.worker = String(res.headers['x-worker'])
      this.home = String(res.headers['x-home'])
      res.setEncoding('utf8').on('data', (text: string) => this.reader.take(text))
      res.on('error', () => {})
      res.once('close', again)
    })
    outgoing.end()
  }
}

/** An upstream that goes on after the id that a client names, an event every few milliseconds. */
async function startNumbered(t: TestContext): Promise<Upstream> {
  const handler = (exchange: Exchange): void => {
    const stream = exchange.stream({ 'x-home': `${upstream.port}` })
    let n = numberAfter(exchange.headers['last-event-id'] as string | undefined)
    const timer = setInterval(() => stream.write(numberedEvent(n++)), 20)
    exchange.res.once('close', () => clearInterval(timer))
  }
  const upstream = await startUpstream({ handler })
  t.after(() => upstream.close())
  return upstream
}

async function startCluster(t: TestContext, upstreams: Upstream[]): Promise<{ port: number; workers: Worker[] }> {
  // Workers that accept by themselves: the primary would hand connections to a dead one until it knew of its death.
  cluster.schedulingPolicy = cluster.SCHED_NONE
  const { path, execArgv } = scriptOf('cluster-worker.ts')
  cluster.setupPrimary({ exec: path, execArgv })
  const port = await freePort()
  const env = { TARGETS: upstreams.map(({ url }) => url).join(' '), PORT: `${port}`, NODE_OPTIONS: '' }
  const workers = [1, 2, 3, 4].map(() => cluster.fork(env))
  t.after(() => Promise.all(workers.map(end)))
  await within(Promise.all(workers.map((worker) => once(worker, 'message'))), 'four workers', 30_000)
  return { port, workers }
}

async function end(worker: Worker): Promise<void> {
  if (worker.isDead()) return
  const exit = once(worker, 'exit')
  worker.process.kill('SIGKILL')
  await exit
}

async function scrape(): Promise<Scrape> {
  return readScrape(await within(new AggregatorRegistry().clusterMetrics(), 'the metrics of all workers'))
}
