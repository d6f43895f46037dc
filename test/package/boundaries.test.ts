// Who may import what: the two halves of src/ stay apart, and each library is known in one place.
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

const src = fileURLToPath(new URL('../../src', import.meta.url))
const imports = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .flatMap((name) => importsOf(name.split(sep).join('/')))

test('upstream/ and stream/ do not import each other', () => {
  const crossing = imports.filter(
    ({ from, to }) =>
      (from.startsWith('upstream/') && to.startsWith('stream/')) ||
      (from.startsWith('stream/') && to.startsWith('upstream/')),
  )

  assert.deepEqual(crossing, [])
})

test('upstream/ and stream/ do not know who puts them together', () => {
  const upward = imports.filter(
    ({ from, to }) => /^(upstream|stream)\//.test(from) && ['index.ts', 'sse-proxy.ts', 'middleware.ts'].includes(to),
  )

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
