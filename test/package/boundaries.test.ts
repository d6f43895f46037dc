// Who may import what: every file of src/ is in one room, the rooms form no circle, and each library is known in one place.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { dirname, join, relative, sep } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

interface Import {
  /** The importing file, relative to src/. */
  from: string
  /** The imported file, relative to src/, or the package's name. */
  to: string
  isTypeOnly: boolean
}

// A folder is a room, and so is each file beside the folders.
const folders = [
  'events',
  'fast-lane',
  'observe',
  'options',
  'redis',
  'share',
  'store-tests',
  'stream',
  'translate',
  'upstream',
]

const src = fileURLToPath(new URL('../../src', import.meta.url))
const files = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => name.split(sep).join('/'))
const imports = files.flatMap(importsOf)

test('every file of src/ is in a known folder or beside the folders', () => {
  const homeless = files.filter((file) => file.includes('/') && !folders.includes(roomOf(file)))

  assert.deepEqual(homeless, [])
})

test('the rooms form no circle by their imports, those of types included', () => {
  const circular = passages()
    .filter(([from, to]) => reachedFrom(to).has(from))
    .map(([from, to]) => `${from} -> ${to}`)

  assert.deepEqual(circular, [])
})

/** Whom a part does not know, by the beginnings of the paths of its files. */
const strangers: [part: string, unknown: string[], why: string][] = [
  ['upstream/', ['stream/', 'share/', 'observe/'], 'an answer is the same whoever reads it'],
  [
    'stream/',
    ['upstream/', 'share/', 'observe/'],
    'a stream does not know where its events come from, nor who counts them',
  ],
  ['share/', ['upstream/', 'observe/'], 'a shared stream is opened by a function, and counted by an interface'],
  ['options/', ['upstream/', 'stream/', 'share/', 'observe/', 'fast-lane/'], 'options are data'],
  ['events/', [...folders.filter((folder) => folder !== 'events').map((folder) => `${folder}/`)], 'events are bytes'],
]

for (const [part, unknown, why] of strangers) {
  test(`${part} imports nothing of ${unknown.join(', ')}: ${why}`, () => {
    const known = imports.filter(
      ({ from, to }) => from.startsWith(part) && unknown.some((stranger) => to.startsWith(stranger)),
    )

    assert.deepEqual(known, [])
  })
}

test('the fast lane has two doors', () => {
  const doors = imports.filter(({ from, to }) => to.startsWith('fast-lane/') && !from.startsWith('fast-lane/'))

  assert.deepEqual([...new Set(doors.map(({ from }) => from))].sort(), [
    'stream/pipeline.ts',
    'upstream/response-body.ts',
  ])
})

test('HTTP chunks are known to those alone who write to clients, and to those who stand in for a connection', () => {
  const others = importersOf('http-chunks.ts').filter(
    (from) => !/^(fast-lane\/.*|stream\/(client-writer|session)|share\/[\w-]+|upstream\/http2\/[\w-]+)\.ts$/.test(from),
  )

  assert.deepEqual(others, [])
})

test('upstream/ and stream/ do not know who puts them together', () => {
  const composers = ['index.ts', 'sse-proxy.ts', 'middleware.ts', 'request.ts']

  const upward = imports.filter(({ from, to }) => /^(upstream|stream)\//.test(from) && composers.includes(to))

  assert.ok(composers.every((file) => files.includes(file)))
  assert.deepEqual(upward, [])
})

for (const library of ['http-proxy-middleware', 'eventsource-parser']) {
  test(`${library} is imported in one file`, () => {
    assert.equal(importersOf(library).length, 1, `imported in ${importersOf(library)}`)
  })
}

test('prom-client is imported in the prometheus entry alone, and the main entry does not reach that', () => {
  assert.deepEqual(
    importersOf('prom-client').filter((from) => from !== 'observe/prometheus.ts'),
    [],
  )
  assert.deepEqual(importersOf('observe/prometheus.ts'), [])
})

test('OpenTelemetry is imported in its own entry alone, and the main entry does not reach that', () => {
  assert.deepEqual(importersOf('@opentelemetry/api'), ['observe/opentelemetry.ts'])
  assert.deepEqual(
    importersOf('observe/opentelemetry.ts').filter((from) => from !== 'observe/opentelemetry.cts'),
    [],
  )
})

test('clients of Redis are imported nowhere, and the store for them in its entry alone', () => {
  assert.deepEqual([...importersOf('redis'), ...importersOf('ioredis')], [])
  assert.deepEqual(
    imports.filter(({ from, to }) => to.startsWith('redis/') && !from.startsWith('redis/')),
    [],
  )
})

test('Express is imported for its types at most, in one file', () => {
  const express = imports.filter(({ to }) => to === 'express' || to === 'express-serve-static-core')

  assert.ok(express.length <= 1, `imported in ${express.map(({ from }) => from)}`)
  assert.ok(express.every(({ isTypeOnly }) => isTypeOnly))
})

test('only the declared dependencies and Node itself are imported', () => {
  const manifest = JSON.parse(readFileSync(join(src, '..', 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>
    peerDependencies: Record<string, string>
  }
  const declared = [...Object.keys(manifest.dependencies), ...Object.keys(manifest.peerDependencies)]

  const foreign = imports.filter(({ to }) => !to.endsWith('.ts') && !isBuiltin(to) && !declared.includes(to))

  assert.deepEqual(foreign, [])
})

function roomOf(file: string): string {
  return file.split('/', 1)[0] ?? file
}

/** From each room to those that it imports. */
function passages(): [string, string][] {
  const pairs = imports
    .filter(({ to }) => files.includes(to))
    .map(({ from, to }): [string, string] => [roomOf(from), roomOf(to)])
    .filter(([from, to]) => from !== to)
  return [...new Map(pairs.map((pair) => [pair.join(), pair])).values()]
}

/** All rooms that one can get to from this one. */
function reachedFrom(room: string): Set<string> {
  const reached = new Set([room])
  for (const from of reached) {
    for (const [, to] of passages().filter(([start]) => start === from)) reached.add(to)
  }
  return reached
}

function importersOf(what: string): string[] {
  return imports.filter(({ to }) => to === what).map(({ from }) => from)
}

function importsOf(from: string): Import[] {
  const statement =
    /^(?:import|export)(?<type> type)?\s+(?:[\w$*\s,]*(?:\{[^}]*\})?\s*from\s+)?'(?<specifier>[^']+)'|import\('(?<dynamic>[^']+)'\)/gm
  const text = readFileSync(join(src, from), 'utf8')

  return [...text.matchAll(statement)].map(({ groups = {} }) => {
    const specifier = groups.specifier ?? groups.dynamic ?? ''
    const to = specifier.startsWith('.')
      ? relative(src, join(src, dirname(from), specifier))
          .split(sep)
          .join('/')
      : specifier
    return { from, to, isTypeOnly: groups.type !== undefined }
  })
}
