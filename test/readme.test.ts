// Everything the README says that a program can check: its examples run, its tables are those of the sources.
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { ConfigError } from '../src/errors.ts'
import { OWN_OPTIONS } from '../src/options/option-names.ts'
import type { SseProxyOptions } from '../src/options/options.ts'
import { PASSED_OPTIONS } from '../src/options/passed-options.ts'
import { resolveOptions } from '../src/options/resolve-options.ts'
import { open, request } from './support/client.ts'
import type { Child } from './support/processes/child.ts'
import {
  blocks,
  type Changes,
  projectForFile,
  readme,
  root,
  runBlock,
  section,
  spans,
  table,
  typecheck,
} from './support/readme.ts'
import { type Exchange, startUpstream, type Upstream } from './support/upstream.ts'
import { until } from './support/waiting.ts'

const linesAtMost = 350
const target = 'http://127.0.0.1:1/events'

// What tells an option's forms apart where it has several.
const FORMS: Record<string, object[]> = { target: [{ url: target }], sticky: [{}, { issueCookie: 'name' }] }

const project = projectForFile()
const programs = blocks('js')
const [start, gateway, several, shared, production] = programs

describe('the programs', () => {
  test('all of them are run below', () => {
    assert.deepEqual(
      programs.map(({ section }) => section),
      ['sse-proxy-middleware', 'Recipes', 'Recipes', 'Recipes', 'Recipes'],
    )
  })

  test('their types are right', async () => {
    await typecheck(await project(), programs)
  })

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
      instead: { 'https://api.example.com': upstream.url },
      then: "const server = app.listen(0, '127.0.0.1')",
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
    const [line = ''] = spans(section('Recipes')).filter((span) => span.startsWith('for ('))
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

describe('the options', () => {
  const rows = table('Options')

  test('the table has all of them, in the order of the sources', () => {
    assert.deepEqual(
      rows.flatMap(([name = '']) => spans(name)),
      OWN_OPTIONS,
    )
  })

  for (const [name = '', values = ''] of rows.map(([name = '', values]) => [spans(name)[0], values])) {
    test(`${name}: the names inside it are those that are accepted`, () => {
      const documented = spans(values)
        .filter((span) => span.startsWith('{'))
        .flatMap((span) => namesIn(name, span))

      assert.deepEqual([...new Set(documented)].sort(), acceptedIn(name).sort())
    })
  }

  test('the values in quotes, true and false are accepted', () => {
    for (const [name = '', values = ''] of rows) {
      for (const span of spans(values).filter((one) => /^('.*'|true|false)$/.test(one))) {
        const value: unknown = span.startsWith("'") ? span.slice(1, -1) : span === 'true'
        resolveOptions({ target, [spans(name)[0]!]: value })
      }
    }
  })

  test('those of http-proxy-middleware are accepted, and those that are refused are told what replaces them', () => {
    const text = section('Options')
    const passed = spans(/with its meaning:([^.]*)/.exec(text)?.[1] ?? '')
    const refused = spans(/Refused,[^:]*:([^.]*)/.exec(text)?.[1] ?? '')
    assert.ok(passed.length > 0 && refused.length > 0)

    for (const name of passed) assert.ok(PASSED_OPTIONS.includes(name), name)
    for (const name of refused) {
      assert.throws(() => resolveOptions({ target, [name]: {} }), /this option is not available here; /)
    }
  })

  test('the middleware has what is told of it, and nothing else', () => {
    const told = /^The middleware has .*$/m.exec(section('Options'))?.[0] ?? ''
    const names = spans(told).map((span) => span.replace(/\(.*/, ''))

    assert.deepEqual(names.sort(), membersOf('sse-proxy.ts', 'SseProxy'))
  })

  test('the reasons are those of the type', () => {
    const told = /^Reasons: (.*)$/m.exec(section('Options'))?.[1] ?? ''

    assert.deepEqual(spans(told), literalsIn(/export type CloseReason =\n((?: {2}\| .*\n)+)/, 'errors.ts'))
  })
})

describe('the hooks and the observers', () => {
  const text = section('Hooks and observers')

  test('a stream has what is told of it, and nothing else', () => {
    const told = /`stream` is `\{([^}]+)\}/.exec(text.replaceAll('\n', ' '))?.[1] ?? ''
    const names = told.split(',').map((name) => name.trim().replace(/\(.*/, ''))

    assert.deepEqual(names.sort(), membersOf('events/event.ts', 'SseStream'))
  })

  test('the channels are those of the sources', () => {
    const told = /`node:diagnostics_channel` has ([^;]*);/.exec(text)?.[1] ?? ''
    const names = spans(told).map((span) => (span.startsWith(':') ? `sse-proxy${span}` : span))
    const channels = [...source('observe/channels.ts').matchAll(/new Topic\('([^']+)'\)/g)].map(([, name]) => name)

    assert.deepEqual(names.sort(), channels.sort())
  })
})

describe('the errors', () => {
  const rows = table('Errors').map(([code = '', status = '']) => ({ code: spans(code)[0] ?? '', status }))
  const text = source('errors.ts')
  const statuses = new Map(
    [...text.matchAll(/(ERR_SSE_PROXY_\w+): \[(\d+)/g)].map(([, code, status]) => [code, status]),
  )

  test('the table has every code once', () => {
    const codes = [...new Set(text.match(/ERR_SSE_PROXY_\w+/g))]

    assert.deepEqual(rows.map(({ code }) => code).sort(), codes.sort())
  })

  test('their statuses are what a client gets', () => {
    assert.ok(statuses.size > 0)
    for (const { code, status } of rows) assert.equal(status, statuses.get(code) ?? '', code)
  })
})

describe('the rest', () => {
  const scripts = Object.keys(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).scripts)

  test(`it has ${linesAtMost} lines at most`, () => {
    assert.ok(readme.split('\n').length - 1 <= linesAtMost)
  })

  test('the commands to try it are run before a change lands', () => {
    const commands = blocks('sh')
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
    const named = [...readme.matchAll(/npm run ([\w:]+)/g)].map(([, name = '']) => name)

    assert.deepEqual(
      named.filter((name) => !scripts.includes(name)),
      [],
    )
  })

  test('the files in "How it works" exist', () => {
    const missing = section('How it works')
      .split('\n')
      .flatMap(filesIn)
      .filter((file) => !existsSync(join(root, 'src', file)))

    assert.deepEqual(missing, [])
  })

  test('the relative links lead to something', () => {
    const links = [...readme.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = '']) => link)
    const relative = links.filter((link) => !/^(https?:|#)/.test(link))

    assert.ok(relative.length > 0)
    assert.deepEqual(
      relative.filter((link) => !existsSync(join(root, link))),
      [],
    )
  })
})

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

/** `{ a, b: { c } }` as the paths of its names: `a`, `b` and `b.c`, all below `path`. */
function namesIn(path: string, written: string): string[] {
  const names: string[] = []
  const open: string[] = []
  let last = path
  for (const [token] of written.replace(/'[^']*'/g, '').matchAll(/\w+|[{}]/g)) {
    if (token === '{') open.push(last)
    else if (token === '}') open.pop()
    else {
      last = `${open.at(-1)}.${token}`
      names.push(last)
    }
  }
  return names
}

/** The paths of all names that an option's objects may have: an unknown one is refused with a list of the known. */
function acceptedIn(path: string): string[] {
  const known = (FORMS[path] ?? [{}]).flatMap((form) => knownBeside(path, form))
  return [...new Set(known)].flatMap((name) => [`${path}.${name}`, ...acceptedIn(`${path}.${name}`)])
}

function knownBeside(path: string, form: object): string[] {
  const value = path.split('.').reduceRight<unknown>((inner, name) => ({ [name]: inner }), { ...form, zzzzzz: 1 })
  try {
    resolveOptions({ target, ...(value as SseProxyOptions) })
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    const list = /zzzzzz: unknown option; known are (.*)$/.exec(error.message)?.[1]
    return list?.split(', ') ?? []
  }
  return []
}

function source(file: string): string {
  return readFileSync(join(root, 'src', file), 'utf8')
}

function literalsIn(declaration: RegExp, file: string): string[] {
  const text = declaration.exec(source(file))?.[1] ?? ''
  return [...text.matchAll(/'([^']+)'/g)].map(([, literal = '']) => literal)
}

/** The names of an interface's members, sorted. */
function membersOf(file: string, name: string): string[] {
  const body = new RegExp(`^export interface ${name}<.*?\\{\\n(.*?)^\\}`, 'ms').exec(source(file))?.[1] ?? ''
  return [...body.matchAll(/^ {2}(?:readonly )?(\w+)\??[(:]/gm)].map(([, member = '']) => member).sort()
}

/** A line of the drawing names files in the folder that it names first. */
function filesIn(line: string): string[] {
  const names = line.match(/[\w/-]+\.ts\b/g) ?? []
  const folder = names[0]?.includes('/') ? names[0].slice(0, names[0].lastIndexOf('/') + 1) : ''
  return names.map((name) => (name.includes('/') ? name : folder + name))
}
