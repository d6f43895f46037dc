// The packed tarball, installed and used in projects of each kind.
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { installIn, packedForFile } from './packed.ts'

const packed = packedForFile()

const compilerOptions = {
  module: 'NodeNext',
  target: 'ES2022',
  lib: ['ES2022'],
  types: ['node'],
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
}
const types = ['@types/node', '@types/express']

test('an ESM project imports it and receives an event', async () => {
  const project = await installIn(await packed(), { type: 'module', program: 'esm.mjs', installed: ['express'] })

  const { stdout, stderr } = await project.node('esm.mjs')

  assert.equal(stdout, 'data: hello\n\n')
  assert.equal(stderr, '')
})

test('a CommonJS project requires it and receives an event', async () => {
  const project = await installIn(await packed(), { type: 'commonjs', program: 'commonjs.cjs', installed: ['express'] })

  const { stdout, stderr } = await project.node('commonjs.cjs')

  assert.equal(stdout, 'data: hello\n\n')
  assert.equal(stderr, '')
})

test('a TypeScript project compiles under NodeNext, has the types of its Express and receives an event', async () => {
  const project = await installIn(await packed(), {
    type: 'module',
    program: 'typescript.ts',
    installed: ['express', ...types],
    tsconfig: { compilerOptions: { ...compilerOptions, skipLibCheck: true } },
  })

  await project.tsc()
  const { stdout, stderr } = await project.node('typescript.js')

  assert.equal(stdout, 'data: hello ada from 127.0.0.1 at /events\n\nupstream-ended\n')
  assert.equal(stderr, '')
})

test('a TypeScript project without Express compiles, the declarations of the package checked as well', async () => {
  const project = await installIn(await packed(), {
    type: 'module',
    program: 'bare.ts',
    installed: ['@types/node'],
    tsconfig: { compilerOptions: { ...compilerOptions, skipLibCheck: false } },
  })

  await project.tsc()
  const { stdout } = await project.node('bare.js')

  assert.equal(stdout, 'data: hello\n\n')
})

test('a TypeScript project uses traces and metrics with the API of OpenTelemetry', async () => {
  const project = await installIn(await packed(), {
    type: 'module',
    program: 'opentelemetry.ts',
    installed: ['@types/node', '@opentelemetry/api'],
    tsconfig: { compilerOptions: { ...compilerOptions, skipLibCheck: true } },
  })

  await project.tsc()
  const { stdout, stderr } = await project.node('opentelemetry.js')

  assert.equal(stdout, 'true\n')
  assert.equal(stderr, '')
})

test('without the API of OpenTelemetry its entry says what is missing, and the rest works', async () => {
  const project = await installIn(await packed(), { type: 'module', program: 'esm.mjs', installed: ['express'] })
  await writeFile(join(project.folder, 'traced.mjs'), "import 'sse-proxy-middleware/opentelemetry'")

  await assert.rejects(project.node('traced.mjs'), /Cannot find package '@opentelemetry\/api'/)
  const { stdout } = await project.node('esm.mjs')

  assert.equal(stdout, 'data: hello\n\n')
})

test('a TypeScript project uses the metrics with prom-client', async () => {
  const project = await installIn(await packed(), {
    type: 'module',
    program: 'prometheus.ts',
    installed: ['@types/node', 'prom-client'],
    tsconfig: { compilerOptions: { ...compilerOptions, skipLibCheck: true } },
  })

  await project.tsc()
  const { stdout, stderr } = await project.node('prometheus.js')

  assert.equal(stdout, 'true\n')
  assert.equal(stderr, '')
})
