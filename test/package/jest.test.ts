// What the guide on hosts says to set so that Jest's CommonJS tests can load the package, set.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readFileSync, realpathSync } from 'node:fs'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { guide, section, spans } from '../support/documents.ts'
import { installIn, packedForFile, root } from './packed.ts'

const run = promisify(execFile)
const packed = packedForFile()

const settings = spans(section(guide('hosts'), 'Runtimes')).filter((span) => /^transform\w*: /.test(span))
const [flag = ''] = spans(section(guide('hosts'), 'Runtimes')).filter((span) => span.startsWith('NODE_OPTIONS='))

const program = (process.env.PATH ?? '')
  .split(delimiter)
  .map((folder) => join(folder, 'jest'))
  .find((path) => existsSync(path))
const missing = program ? false : 'jest is not installed'
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const tooOld = major < 24 || (major === 24 && minor < 9) ? `Node ${process.version} is older than 24.9` : false

test('Jest: the pattern has every package that is an ES module, and no other', () => {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean; devOptional?: boolean; peer?: boolean }>
  }
  const installed = Object.keys(packages).filter((path) => {
    const { dev, devOptional, peer } = packages[path] ?? {}
    return path !== '' && !dev && !devOptional && !peer
  })
  const isModule = (path: string): boolean =>
    JSON.parse(readFileSync(join(root, path, 'package.json'), 'utf8')).type === 'module'

  const named = /\(\?!\(([^)]*)\)/.exec(settings.join())?.[1]?.split('|') ?? []

  assert.deepEqual(
    named.sort(),
    ['sse-proxy-middleware', ...installed.filter(isModule).map((path) => path.replace(/.*node_modules\//, ''))].sort(),
  )
})

test('Jest: a CommonJS test loads the package with the transform', { skip: missing }, async () => {
  assert.match(await runJest(settings.join(', '), {}), /1 passed, 1 total/)
})

test('Jest: a CommonJS test loads the package with the flag', { skip: missing || tooOld }, async () => {
  const [name = '', value = ''] = flag.split('=')

  assert.match(await runJest('transform: {}', { [name]: value }), /1 passed, 1 total/)
})

test('Jest: without either it does not, so the tests before mean something', { skip: missing }, async () => {
  await assert.rejects(runJest('transform: {}', {}), /Must use import to load ES Module/)
})

/** What Jest prints about a test of an app that has the package installed. */
async function runJest(configuration: string, env: NodeJS.ProcessEnv): Promise<string> {
  const { folder } = await installIn(await packed(), { type: 'commonjs', program: 'events.spec.cjs' })
  await writeFile(join(folder, 'jest.config.js'), `module.exports = { testMatch: ['**/*.spec.cjs'], ${configuration} }`)
  const binary = realpathSync(program ?? '')
  const modules = binary.slice(0, binary.lastIndexOf('node_modules') + 'node_modules'.length)
  for (const name of ['babel-jest', '@babel/plugin-transform-modules-commonjs']) {
    const link = join(folder, 'node_modules', name)
    await mkdir(dirname(link), { recursive: true })
    await symlink(join(modules, name), link)
  }

  const options = { cwd: folder, env: { ...process.env, NODE_OPTIONS: '', ...env }, timeout: 60_000 }
  const { stderr } = await run(process.execPath, [binary, '--no-cache', '--ci'], options)
  return stderr
}
