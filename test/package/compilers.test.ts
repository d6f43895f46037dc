// The declarations, as each compiler that is in use finds and reads them in each kind of project.
import assert from 'node:assert/strict'
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Compiler } from '../support/tsc.ts'
import { installIn, type Project, packedForFile } from './packed.ts'

const packed = packedForFile()
const require = createRequire(import.meta.url)

const compilers: Compiler[] = ['typescript-5.6', 'typescript-5.9', 'typescript']

// By folder: how its package is declared, and what its compiler is told. The declarations themselves are checked in the
// two strictest kinds, which reach all of them: it takes most of the time, since those of Node are checked as well. The
// compiler's own are not.
const projects: Record<string, { type: 'module' | 'commonjs'; compilerOptions: object }> = {
  'nodenext-module': { type: 'module', compilerOptions: { module: 'nodenext' } },
  'nodenext-commonjs': { type: 'commonjs', compilerOptions: { module: 'nodenext' } },
  'node16-module': { type: 'module', compilerOptions: { module: 'node16' } },
  'node16-commonjs': { type: 'commonjs', compilerOptions: { module: 'node16', skipLibCheck: false } },
  bundler: { type: 'module', compilerOptions: { module: 'esnext', moduleResolution: 'bundler' } },
  // Which finds a package as `node10` up to TypeScript 5, and as a bundler after that. The declarations of httpxy want
  // the interop that `tsc --init` turns on.
  commonjs: { type: 'commonjs', compilerOptions: { module: 'commonjs', esModuleInterop: true, skipLibCheck: false } },
}
const folders = Object.keys(projects)

for (const compiler of compilers) {
  const { version } = require(`${compiler}/package.json`) as { version: string }

  // One process for all of them: it reads and checks the types of Node once.
  test(`TypeScript ${version} compiles for ${folders.join(', ')}, declarations included, and each result runs`, async () => {
    const { folder, node, tsc } = await installIn(await packed(), {
      type: 'module',
      program: 'consumer.ts',
      besides: ['entries.ts'],
      installed: ['@types/node', '@opentelemetry/api', 'prom-client'],
    })
    for (const name of folders) await addProject(folder, name)

    await tsc(compiler, folders)

    for (const name of folders) await assertRuns({ folder, node }, name)
  })
}

// Compilers make the same of most projects; what Node makes of that is looked at once.
const hasRun = new Set<string>()

async function assertRuns({ folder, node }: Pick<Project, 'folder' | 'node'>, name: string): Promise<void> {
  const files = ['package.json', 'consumer.js', 'entries.js'].map((file) => join(folder, name, file))
  const texts = await Promise.all(files.map((file) => readFile(file, 'utf8')))
  if (hasRun.has(texts.join())) return

  const { stdout, stderr } = await node(join(name, 'consumer.js'))
  assert.equal(stdout, '0 ERR_SSE_PROXY_OPTION true\n', name)
  assert.equal(stderr, '', name)
  const entries = await node(join(name, 'entries.js'))
  assert.match(entries.stdout, /redisStore\.client: expected a client/, name)
  assert.match(entries.stdout, /pass 28$/m, name)
  hasRun.add(texts.join())
}

async function addProject(parent: string, name: string): Promise<void> {
  const { type, compilerOptions } = projects[name] ?? {}
  const common = {
    target: 'es2022',
    lib: ['es2022'],
    types: ['node'],
    strict: true,
    skipLibCheck: true,
    skipDefaultLibCheck: true,
  }
  const folder = join(parent, name)

  await mkdir(folder)
  for (const program of ['consumer.ts', 'entries.ts']) await cp(join(parent, program), join(folder, program))
  await writeFile(join(folder, 'package.json'), JSON.stringify({ type }))
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: { ...common, ...compilerOptions } }))
}
