// The README and the guides: each program in them has the right types and runs, each name in them is one of the sources', each
// of the sources' is in them, and each link leads to something, inside the package too.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { dirname, join, normalize } from 'node:path'
import { after, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { transform } from 'esbuild'
import express from 'express'
import { sseProxy } from 'sse-proxy-middleware'
import { ConfigError } from '../src/errors.ts'
import { DEFINITIONS } from '../src/observe/prometheus-definitions.ts'
import { OWN_OPTIONS, REPLACED } from '../src/options/option-names.ts'
import type { SseProxyOptions } from '../src/options/options.ts'
import { PASSED_OPTIONS } from '../src/options/passed-options.ts'
import { resolveOptions } from '../src/options/resolve-options.ts'
import { open } from './support/client.ts'
import {
  anchors,
  type Block,
  blocks,
  type Document,
  guide,
  guides,
  links,
  nameOf,
  projectForFile,
  readme,
  remark,
  root,
  rows,
  section,
  spans,
  typecheck,
} from './support/documents.ts'
import { startFront } from './support/front.ts'
import { type Child, startChild } from './support/processes/child.ts'
import type { Ran, Runnable } from './support/processes/programs.ts'
import { noRedis, RedisServer } from './support/redis-server.ts'
import { startUpstream } from './support/upstream.ts'

const run = promisify(execFile)
const documents: readonly Document[] = [readme, ...guides]
const target = 'http://127.0.0.1:1/events'

// What tells an option's forms apart where it has several.
const FORMS: Record<string, object[]> = { target: [{ url: target }], sticky: [{}, { issueCookie: 'name' }] }

describe('the programs', () => {
  const project = projectForFile()
  let redis: Promise<RedisServer> | undefined
  let child: Promise<Child> | undefined
  after(async () => {
    await (await child)?.end()
    await (await redis)?.end()
  })

  test('their types are right', async () => {
    const programs = documents.flatMap((document) => blocks(document, 'js', 'ts'))
    assert.ok(programs.length > 0)

    await typecheck(await project(), programs)
  })

  for (const document of documents) {
    const programs = blocks(document, 'js', 'ts').filter((block) => !(noRedis && needsRedis(block)))
    if (programs.length === 0) continue
    test(`those of ${document.path} run`, async () => {
      const folder = await project()
      if (programs.some(needsRedis)) redis ??= RedisServer.start()
      const port = (await redis)?.port
      const files = await Promise.all(programs.map((block) => written(folder, block, port)))
      child ??= startChild('programs.ts')

      const ran = await (await child).ask<Ran[]>('run', files, 150_000)

      assert.deepEqual(
        ran.filter(({ error }) => error !== undefined),
        [],
      )
      assert.equal(ran.length, programs.length)
    })
  }

  test('what they need beside the package is said in one of two ways', () => {
    const remarks = documents.flatMap((document) => blocks(document, 'js', 'ts').map(remark))
    const unknown = remarks.filter((text) => text.startsWith('needs') && text !== 'needs redis-server')

    assert.deepEqual(unknown, [])
  })
})

describe('the options', () => {
  const text = guide('options').text
  const nested = OWN_OPTIONS.flatMap(acceptedIn)
  const own = new Map(
    rows(text)
      .map(([name = '', ...cells]) => [spans(name)[0] ?? '', cells] as const)
      .filter(([name]) => OWN_OPTIONS.includes(name.split('.')[0] as (typeof OWN_OPTIONS)[number])),
  )

  test('each has a section of its own, in the order of the table of contents', () => {
    const titles = [...text.matchAll(/^## (\w+)$/gm)].map(([, title]) => title)
    const listed = [...text.slice(0, text.indexOf('\n## ')).matchAll(/\[(\w+)\]\(#/g)].map(([, name]) => name)

    assert.deepEqual(titles.sort(), [...OWN_OPTIONS].sort())
    assert.deepEqual(listed.sort(), [...OWN_OPTIONS].sort())
  })

  test('each of a group has a row, and each row is an option', () => {
    const rowsOfGroups = [...own.keys()].filter((name) => name.includes('.'))

    assert.deepEqual(rowsOfGroups.sort(), nested.sort())
  })

  test('each has an example, alone or with its neighbours', () => {
    const missing = OWN_OPTIONS.filter(
      (name) => !blocks(guide('options'), 'js').some(({ code }) => code.includes(name)),
    )

    assert.deepEqual(missing, [])
  })

  for (const [name, cells] of own) {
    // How many depends on how many targets there are.
    if (name === 'retry.attempts') continue
    const value = defaultOf(name)
    if (typeof value !== 'number' && typeof value !== 'boolean') continue
    test(`the default of ${name} is that of the sources`, () => {
      const told = cells[1]?.replaceAll(/[ `]/g, '') ?? ''

      assert.ok(
        [String(value), `${Number(value) / 2 ** 20}MiB`, ...(value === 0 ? ['none', 'off(0)'] : [])].includes(told),
        told,
      )
    })
  }

  test('those of http-proxy-middleware are all there, and no others', () => {
    const passed = section(guide('options'), 'Options of http-proxy-middleware').split('Refused')[0] ?? ''

    assert.deepEqual(spans(passed).sort(), [...PASSED_OPTIONS].sort())
  })

  test('those that are refused have what replaces them in the guide on migration', () => {
    const replaced = rows(section(guide('migration'), 'Options that are refused, and what replaces them'))
    const told = replaced.flatMap(([old = '']) => spans(old))

    assert.deepEqual(
      Object.keys(REPLACED).filter((name) => !told.includes(name)),
      [],
    )
  })

  test('the README names all of the own ones once, in its table', () => {
    const named = rows(section(readme, 'Options')).flatMap(([, cell = '']) => spans(cell))

    assert.deepEqual(named.filter((name) => OWN_OPTIONS.includes(name as never)).sort(), [...OWN_OPTIONS].sort())
  })

  test('the methods of the middleware are those of the type', () => {
    const told = rows(section(guide('options'), 'Methods of the middleware')).flatMap(([cell = '']) => spans(cell))

    assert.deepEqual(told.map(nameOnly).sort(), membersOf('sse-proxy.ts', 'SseProxy'))
  })

  test('the reasons of a close are those of the type', () => {
    const told = rows(section(guide('options'), 'onClose')).flatMap(([cell = '']) => spans(cell))

    assert.deepEqual(told, literalsIn(/export type CloseReason =\n((?: {2}\| .*\n)+)/, 'errors.ts'))
  })

  test('what a hook sees of a stream is what the type has', () => {
    const told = /`stream` is\s+`\{([^}]+)\}/.exec(section(guide('options'), 'transform'))?.[1] ?? ''

    assert.deepEqual(told.split(',').map(nameOnly).sort(), membersOf('events/event.ts', 'SseStream'))
  })
})

describe('the options of redisStore', () => {
  const told = rows(section(guide('many-nodes'), 'Options of redisStore')).map(([name = '', , byDefault = '']) => [
    spans(name)[0] ?? '',
    spans(byDefault)[0] ?? byDefault,
  ])

  test('each has a row, and each row is one of them', () => {
    assert.deepEqual(told.map(([name]) => name).sort(), membersOf('redis/redis-store.ts', 'RedisStoreOptions'))
  })

  test('the defaults are those of the type', () => {
    const defaults = [...source('redis/redis-store.ts').matchAll(/@defaultValue (.*)\n {3}\*\/\n {2}readonly (\w+)/g)]

    assert.deepEqual(
      told.filter(([, byDefault]) => byDefault !== 'required'),
      defaults.map(([, value, name]) => [name, value]),
    )
  })
})

describe('the errors', () => {
  const table = rows(section(guide('troubleshooting'), 'Error codes')).map(([code = '', status = '', ...rest]) => ({
    code: spans(code)[0] ?? '',
    status,
    rest,
  }))
  const text = source('errors.ts')
  const statuses = new Map(
    [...text.matchAll(/(ERR_SSE_PROXY_\w+): \[(\d+)/g)].map(([, code, status]) => [code, status]),
  )

  test('each code is there once, with its cause and its cure', () => {
    const codes = [...new Set(text.match(/ERR_SSE_PROXY_\w+/g))]

    assert.deepEqual(table.map(({ code }) => code).sort(), codes.sort())
    for (const { code, rest } of table) assert.ok(rest.length === 2 && rest.every((cell) => cell !== ''), code)
  })

  test('their statuses are what a client gets', () => {
    assert.ok(statuses.size > 0)
    for (const { code, status } of table) assert.equal(status, statuses.get(code) ?? '', code)
  })
})

describe('the metrics', () => {
  const metrics = guide('metrics')

  test('each metric is there with its type, and no other', () => {
    const told = rows(section(metrics, 'Prometheus')).map(([name = '', type]) => [spans(name)[0], type])

    assert.deepEqual(told.sort(), DEFINITIONS.map(({ name, type }) => [name, type]).sort())
  })

  test('each alert is there, in the order of its file', () => {
    const told = rows(section(metrics, 'Dashboard and alerts')).flatMap(([cell = '']) => spans(cell))
    const rules = readFileSync(join(root, 'demo', 'dashboards', 'alerts.yml'), 'utf8')

    assert.deepEqual(
      told,
      [...rules.matchAll(/- alert: (\w+)/g)].map(([, name]) => name),
    )
  })

  test('the channels are those of the sources', () => {
    const told = rows(section(metrics, 'In the process')).flatMap(([cell = '']) => spans(cell))
    const channels = [...source('observe/channels.ts').matchAll(/new Topic\('([^']+)'\)/g)].map(([, name]) => name)

    assert.deepEqual(told.sort(), channels.sort())
  })
})

describe('the paths', () => {
  for (const [mounted = '', path = '', options = '', asked = '', got = ''] of rows(guide('paths').text)) {
    const [mount, upstreamPath, given, url, expected] = [mounted, path, options, asked, got].map(
      (cell) => spans(cell)[0],
    )
    test(`${mount} on ${upstreamPath ?? 'no path'} makes ${expected} of ${url} (${given ?? 'no options'})`, async (t) => {
      const upstream = await startUpstream({ handler: (exchange) => exchange.answer(200) })
      const own: Partial<SseProxyOptions> = given ? Function(`return { ${given} }`)() : {}
      const proxy = sseProxy({ target: `${upstream.url}${upstreamPath ?? ''}`, ...own })
      const app = express()
      Function('app', 'proxy', mount ?? '')(app, proxy)
      const front = await startFront('express5', app, { mount: '/' })
      t.after(async () => {
        await front.close()
        await upstream.close()
      })

      await open(front.origin + url)

      assert.equal(upstream.exchanges[0]?.url, expected)
    })
  }
})

describe('the links', () => {
  for (const document of documents) {
    test(`those of ${document.path} lead to something`, () => {
      const dead = links(document).filter((link) => {
        const [path = '', anchor] = link.split('#')
        const file = path === '' ? document.path : normalize(join(dirname(document.path), path))
        if (!existsSync(join(root, file))) return true
        const linked = documents.find((one) => one.path === file)
        return anchor !== undefined && !(linked && anchors(linked).includes(anchor))
      })

      assert.deepEqual(dead, [])
    })
  }

  test('they lead to files of the package', async () => {
    const args = ['pack', '--dry-run', '--json', '--ignore-scripts', '--silent']
    const { stdout } = await run('npm', args, { cwd: root, timeout: 60_000 })
    const [tarball] = Object.values(JSON.parse(stdout) as Record<string, { files: { path: string }[] }>)
    const files = tarball?.files.map(({ path }) => path) ?? []

    const left = documents.flatMap((document) =>
      links(document)
        .map((link) => link.replace(/#.*/, ''))
        .filter((link) => link !== '')
        .map((link) => normalize(join(dirname(document.path), link)))
        .filter((link) => !files.some((file) => file === link || file.startsWith(`${link}/`))),
    )

    assert.deepEqual(left, [])
    for (const { path } of documents) assert.ok(files.includes(path), path)
  })
})

function needsRedis(block: Block): boolean {
  return remark(block) === 'needs redis-server'
}

/** As a file that Node can run. */
async function written(folder: string, block: Block, port: number | undefined): Promise<Runnable> {
  const { code } = await transform(block.code, { loader: 'ts', format: 'esm', target: 'es2022' })
  const file = join(folder, `${nameOf(block)}.mjs`)
  await writeFile(file, code.replace(/redis:\/\/(?:localhost|127\.0\.0\.1):6379/g, `redis://127.0.0.1:${port}`))
  return { place: block.place, file, isPage: remark(block) === 'in the browser' }
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

/** What it is where nobody says anything, as far as it is kept under its own name. */
function defaultOf(path: string): unknown {
  const given = { target, retry: {}, resume: {}, share: {}, http2: 'auto', health: { probe: { path: '/' } } } as const
  const resolved = resolveOptions(given)
  const { upstreams } = resolved
  const places = { ...resolved, ...upstreams, health: { ...upstreams.pool?.health, probe: upstreams.probe } }
  return path.split('.').reduce<unknown>((value, name) => Reflect.get(Object(value), name), places)
}

function nameOnly(written: string): string {
  return written.trim().replace(/\(.*/, '')
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
  const body = new RegExp(`^export interface ${name}[ <].*?\\{\\n(.*?)^\\}`, 'ms').exec(source(file))?.[1] ?? ''
  return [...body.matchAll(/^ {2}(?:readonly )?(\w+)\??[(:]/gm)].map(([, member = '']) => member).sort()
}
