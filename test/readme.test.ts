// What programs of the README and of the guides promise, and the README's own bounds. guides.test.ts has what concerns
// all documents.
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { open, request } from './support/client.ts'
import {
  type Block,
  blocks,
  type Changes,
  guide,
  projectForFile,
  readme,
  root,
  runBlock,
  section,
  spans,
} from './support/documents.ts'
import type { Child } from './support/processes/child.ts'
import { type Exchange, startUpstream, type Upstream } from './support/upstream.ts'
import { until } from './support/waiting.ts'

const linesAtMost = 350
const project = projectForFile()
const start = programWith("app.use('/events', requireUser, sseProxy(")
const gateway = blocks(guide('llm-gateway'), 'js').find(({ section }) => section === 'The gateway')
const surviving = blocks(guide('llm-gateway'), 'js').find(({ code }) => code.includes("join: ['GET']"))
const securing = blocks(guide('security'), 'js').find(({ code }) => code.includes("req.headers['x-user'] = user"))
const several = programWith('export const notifications')
const shared = programWith('export const prices')
const production = programWith('prometheusMetrics(events')

describe('the programs', () => {
  test('the first one streams events to a client that the guard lets in, and answers 401 to another', async (t) => {
    const upstream = await upstreamOf(t)
    const { url } = await runBlock(t, await project(), start!, {
      instead: {
        'http://localhost:8080/events': `${upstream.url}/stream`,
        'app.listen(3000)': "const server = app.listen(0, '127.0.0.1')",
      },
    })

    const stranger = await open(`${url}/events`)
    const client = request(`${url}/events?room=1`, { headers: { authorization: 'Bearer key' } })
    const exchange = await upstream.next()
    exchange.stream().send({ data: 'hello' })
    await client.waitFor('data: hello\n\n')

    assert.equal(stranger.status, 401)
    assert.equal(client.headers['content-type'], 'text/event-stream')
    assert.equal(exchange.url, '/stream?room=1')
    assert.equal(exchange.headers.authorization, 'Bearer key')
    assert.equal(upstream.exchanges.length, 1)
  })

  test('the LLM gateway lets its users in, brings its own key, and counts the usage although the reader has left', async (t) => {
    const upstream = await upstreamOf(t)
    const { url, child } = await runBlock(t, await project(), gateway!, {
      instead: {
        'https://api.example.com': upstream.url,
        'app.listen(3000)': "const server = app.listen(0, '127.0.0.1')",
      },
      tells: {
        tokens: '[...tokens]',
        connections: 'new Promise((resolve) => server.getConnections((_error, count) => resolve(count)))',
      },
      env: { PROVIDER_KEY: 'the-real-key' },
    })
    // More than a body parser takes by default.
    const body = JSON.stringify({ model: 'one', stream: true, messages: [{ content: 'x'.repeat(150_000) }] })
    const headers = { 'content-type': 'application/json', authorization: 'Bearer token-of-ada' }

    const stranger = await open(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: 'Bearer x' },
    })
    const client = request(`${url}/v1/chat/completions`, { method: 'POST', headers, body })
    const exchange = await upstream.next()
    const sent = String(await exchange.body())
    const stream = exchange.stream()
    stream.send({ data: '{"choices":[{"delta":{"content":"Hi"}}]}' })
    await client.waitFor('"content":"Hi"')
    client.close()
    await told(child, 'connections', 0)
    stream.send({ data: '{"choices":[],"usage":{"total_tokens":42}}' })
    stream.send({ data: '[DONE]' })
    stream.end()
    await told(child, 'tokens', [['ada', 42]])
    const whole = request(`${url}/v1/chat/completions`, { method: 'POST', headers, body })
    const next = await upstream.next()
    // An upstream that answers and closes with a part of the body unread may reset the connection.
    await next.body()
    const last = next.stream()
    for (const data of ['', 'null', 'overloaded', '{"choices":[],"usage":{"total_tokens":8}}', '[DONE]'])
      last.send({ data })
    last.end()

    assert.equal(stranger.status, 401)
    assert.match(await whole.whole(), /^data: \n\ndata: null\n\ndata: overloaded\n\n.*\[DONE\]\n\n$/s)
    assert.deepEqual(await child.ask('tokens'), [['ada', 50]])
    assert.equal(exchange.url, '/v1/chat/completions')
    assert.equal(exchange.headers.authorization, 'Bearer the-real-key')
    assert.equal(sent, body)
  })

  test('the first steps of the guide lead from a backend to events at a client, and a lost backend is told', async (t) => {
    const [backend, route] = blocks(guide('getting-started'), 'js')
    const ticking = await runBlock(t, await project(), backend!, {
      instead: { 'createServer((req': 'const server = createServer((req', '1000)': '10)', '8080': '0' },
    })
    const { url, child } = await runBlock(t, await project(), route!, {
      instead: {
        'http://localhost:8080': ticking.url,
        'app.listen(3000)': "const server = app.listen(0, '127.0.0.1')",
      },
    })

    const stranger = await open(`${url}/events`)
    const client = request(`${url}/events`, { headers: { authorization: 'demo', 'last-event-id': '6' } })
    await client.waitFor('id: 7\ndata: tick 7\n\n')
    await ticking.child.end()

    assert.equal(stranger.status, 401)
    assert.equal(await client.ended(), 'broken')
    await until(() => child.output.includes('The upstream was lost in the middle of the stream'), 'a line of the log')
  })

  test('an answer of the LLM guide that survives a reload is joined by its user, and by nobody else', async (t) => {
    const upstream = await upstreamOf(t)
    const { url } = await runBlock(t, await project(), surviving!, {
      instead: {
        'http://localhost:8080': upstream.url,
        "[['Bearer token-of-ada', 'ada']]": "[['Bearer token-of-ada', 'ada'], ['Bearer token-of-grace', 'grace']]",
        'app.listen(3000)': "const server = app.listen(0, '127.0.0.1')",
      },
    })
    const as = (user: string) => ({ authorization: `Bearer token-of-${user}` })
    const asking = request(`${url}/api/chat`, {
      method: 'POST',
      headers: { ...as('ada'), 'content-type': 'application/json' },
      body: '{"id":"7"}',
    })
    const stream = (await upstream.next()).stream()
    stream.send({ data: 'one' })
    await asking.waitFor('data: one\n')
    asking.close()

    const reloaded = request(`${url}/api/chat/7/stream`, { headers: as('ada') })
    await reloaded.waitFor('data: one\n')
    const other = await open(`${url}/api/chat/7/stream`, { headers: as('grace') })
    stream.send({ data: '[DONE]' })
    stream.end()

    assert.match(await reloaded.whole(), /^data: one\n.*data: \[DONE\]\n.*$/s)
    assert.equal(other.status, 204)
    assert.equal(upstream.exchanges.length, 1)
  })

  test('the upstream of the guide on security learns who the user is, and no token, cookie or made-up address', async (t) => {
    const upstream = await upstreamOf(t)
    const { url } = await runBlock(t, await project(), securing!, {
      instead: {
        'http://localhost:8080': upstream.url,
        'app.listen(3000)': "const server = app.listen(0, '127.0.0.1')",
      },
    })
    const headers = {
      authorization: 'Bearer token-of-ada',
      cookie: 'a=b',
      'x-user': 'grace',
      'x-forwarded-for': '6.6.6.6',
      connection: 'x-user',
    }

    const client = request(`${url}/events`, { headers })
    const exchange = await upstream.next()
    exchange.stream().end('data: x\n\n')
    const stranger = await open(`${url}/events`)
    await client.whole()

    assert.equal(stranger.status, 401)
    assert.equal(exchange.headers['x-user'], 'ada')
    assert.equal(exchange.headers['x-forwarded-for'], '127.0.0.1')
    assert.equal(exchange.headers.authorization, undefined)
    assert.equal(exchange.headers.cookie, undefined)
  })

  test('with several upstreams, a stream goes on with another one when its own is killed', async (t) => {
    const probed = new Set<string>()
    const arrived: { upstream: Upstream; exchange: Exchange }[] = []
    const upstreams: Upstream[] = await Promise.all(
      [0, 1, 2].map((at) =>
        upstreamOf(t, (exchange) => {
          const upstream = upstreams[at]!
          if (exchange.url === '/health') {
            probed.add(upstream.url)
            exchange.answer(200)
            return
          }
          arrived.push({ upstream, exchange })
          exchange.stream().send({ id: String(arrived.length), data: `from ${upstream.url}` })
        }),
      ),
    )
    const { url } = await runBlock(t, await project(), several!, {
      instead: Object.fromEntries(upstreams.map((upstream, i) => [`http://10.0.0.${i + 1}:8080`, upstream.url])),
      ...mounted('notifications'),
    })

    const client = request(`${url}/events`, { headers: { 'x-user-id': 'ada' } })
    await client.waitFor('id: 1\n')
    await arrived[0]!.upstream.close()
    await client.waitFor('id: 2\n')

    const [first, second] = arrived
    assert.equal(
      client.text,
      [first, second].map((one, i) => `id: ${i + 1}\ndata: from ${one!.upstream.url}\n\n`).join(''),
    )
    assert.notEqual(second!.upstream, first!.upstream)
    assert.equal(second!.exchange.headers['last-event-id'], '1')
    assert.equal(probed.size, 3)
  })

  test('the shared feed serves two clients from one upstream connection, and one that comes back', async (t) => {
    const upstream = await upstreamOf(t)
    const { url } = await runBlock(t, await project(), shared!, {
      instead: { 'http://localhost:8080': upstream.url },
      ...mounted('prices'),
    })

    const clients = ['ada', 'grace'].map((user) => request(`${url}/events`, { headers: { cookie: `user=${user}` } }))
    const stream = (await upstream.next()).stream()
    await Promise.all(clients.map((client) => client.head()))
    stream.send({ data: 'one' })
    stream.send({ data: 'two' })
    await Promise.all(clients.map((client) => client.waitFor('data: two\n')))
    const firstId = /^id: ?(.+)$/m.exec(clients[0]!.text)?.[1] ?? ''
    const back = request(`${url}/events`, { headers: { 'last-event-id': firstId } })
    await back.waitFor('data: two\n')

    assert.notEqual(firstId, '')
    assert.equal(clients[0]!.text, clients[1]!.text)
    assert.doesNotMatch(back.text, /data: one/)
    assert.equal(upstream.accepted, 1)
  })

  test('in production there are health and metrics, and SIGTERM ends an open stream and then the process', async (t) => {
    const upstream = await upstreamOf(t)
    const { url, child } = await runBlock(t, await project(), production!, inProduction(upstream))
    const client = request(`${url}/events`)
    ;(await upstream.next()).stream().send({ data: 'hello' })
    await client.waitFor('data: hello\n\n')

    const health = await open(`${url}/health`)
    const metrics = request(`${url}/metrics`)
    const scraped = await metrics.whole()
    child.signal('SIGTERM')
    const code = await child.exited()

    assert.equal(health.status, 200)
    assert.match(String(metrics.headers['content-type']), /^text\/plain/)
    assert.match(scraped, /^sse_proxy_streams_active\{.*\} 1$/m)
    assert.equal(await client.ended(), 'clean')
    assert.match(client.text, /\n\nretry: \d+\n\n$/)
    assert.equal(code, 0, child.output)
  })

  test('the line that logs somebody out ends the streams of that user, and of nobody else', async (t) => {
    const [line = ''] = spans(section(readme, 'Recipes')).filter((span) => span.startsWith('for ('))
    const upstream = await upstreamOf(t, (exchange) => exchange.stream().send({ data: 'hello' }))
    const { url, child } = await runBlock(t, await project(), production!, {
      ...inProduction(upstream, "(req, res, next) => { req.user = { id: req.headers['x-user'] }; next() }"),
      tells: { logOut: `{ const id = input; ${line} }` },
    })
    const [ada, grace] = ['ada', 'grace'].map((user) => request(`${url}/events`, { headers: { 'x-user': user } }))
    for (const client of [ada!, grace!]) await client.waitFor('data: hello\n\n')

    await child.ask('logOut', 'ada')

    assert.equal(await ada!.ended(), 'clean')
    await until(() => upstream.open === 1, 'the upstream to be free of the one stream')
    assert.equal(grace!.ending, undefined)
  })
})

describe('the rest', () => {
  const scripts = Object.keys(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).scripts)

  test(`it has ${linesAtMost} lines at most`, () => {
    assert.ok(readme.text.split('\n').length - 1 <= linesAtMost)
  })

  test('the commands to try it are run before a change lands', () => {
    const commands = blocks(readme, 'sh')
      .filter(({ section }) => section.startsWith('Try it'))
      .flatMap(({ code }) => code.trim().split('\n'))
      .map((line) => line.replace(/ *#.*/, ''))
    const ci = readFileSync(join(root, '.ci', 'run'), 'utf8')

    assert.deepEqual(commands, ['npm ci && npm run demo', 'npm ci && npm test'])
    for (const command of new Set(commands.flatMap((line) => line.split(' && ')))) {
      const isRun = new RegExp(`^[^#\\n]*\\b${command}\\b`, 'm').test(ci.replace(/^(?:#|step ).*/gm, ''))
      assert.ok(isRun, `.ci/run does not run ${command}`)
    }
  })

  test('the scripts that it names exist', () => {
    const named = [...readme.text.matchAll(/npm run ([\w:]+)/g)].map(([, name = '']) => name)

    assert.deepEqual(
      named.filter((name) => !scripts.includes(name)),
      [],
    )
  })

  test('the files in "How it works" exist', () => {
    const missing = section(readme, 'How it works')
      .split('\n')
      .flatMap(filesIn)
      .filter((file) => !existsSync(join(root, 'src', file)))

    assert.deepEqual(missing, [])
  })
})

/** The program of the README that has this in it. */
function programWith(text: string): Block | undefined {
  return blocks(readme, 'js').find(({ code }) => code.includes(text))
}

async function upstreamOf(t: TestContext, handler?: (exchange: Exchange) => void): Promise<Upstream> {
  const upstream = await startUpstream(handler && { handler })
  t.after(() => upstream.close())
  return upstream
}

/** Asks until this is the answer. */
async function told(child: Child, name: string, wanted: unknown): Promise<void> {
  const deadline = Date.now() + 10_000
  let answer = await child.ask(name)
  while (!isDeepStrictEqual(answer, wanted) && Date.now() < deadline) answer = await child.ask(name)
  assert.deepEqual(answer, wanted, name)
}

/** For a block that exports a middleware. */
function mounted(name: string): Changes {
  const then = `
import express from 'express'
const server = express().use('/events', ${name}).listen(0, '127.0.0.1')`
  return { then }
}

function inProduction(upstream: Upstream, before = '(req, res, next) => next()'): Changes {
  return {
    instead: {
      'http://localhost:8080/events': `${upstream.url}/events`,
      "app.use('/events', events)": `app.use('/events', ${before}, events)`,
      'app.listen(3000)': "app.listen(0, '127.0.0.1')",
      'withinMs: 10_000': 'withinMs: 500',
    },
  }
}

/** A line of the drawing names files in the folder that it names first. */
function filesIn(line: string): string[] {
  const names = line.match(/[\w/-]+\.ts\b/g) ?? []
  const folder = names[0]?.includes('/') ? names[0].slice(0, names[0].lastIndexOf('/') + 1) : ''
  return names.map((name) => (name.includes('/') ? name : folder + name))
}
