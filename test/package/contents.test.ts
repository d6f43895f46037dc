// What is published, and what the repository consists of.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import { test } from 'node:test'
import { packedForFile, root } from './packed.ts'

const packed = packedForFile()

test('the tarball holds the built sources, their declarations, the documents and what they link to, nothing else', async () => {
  const built = sources().flatMap((name) => {
    const [, path, c] = /^(.*)\.(c?)ts$/.exec(name) ?? []
    return [`dist/${path}.${c}js`, `dist/${path}.d.${c}ts`]
  })
  const documents = ['CHANGELOG.md', 'LICENSE', 'README.md', 'demo/screenshot.png', 'package.json']
  const linked = ['demo/dashboards', 'demo/guides', 'demo/recipes'].flatMap(filesBelow)

  const { files } = await packed()

  assert.deepEqual(files, [...built, ...documents, ...linked].sort())
})

test('no built file names a source file or a type that is not in the tarball', async () => {
  const { files, folder } = await packed()

  for (const name of files.filter((file) => /\.(c?js|d\.c?ts)$/.test(file))) {
    const text = readFileSync(join(folder, name), 'utf8')
    for (const [, specifier = ''] of text.matchAll(/(?:from|import\(|require\() ?['"](\.[^'"]+)['"]/g)) {
      const target = join(name, '..', specifier).split(sep).join('/')
      const candidates = [target, target.replace(/\.[jt]s$/, '.d.ts')]
      assert.ok(
        candidates.some((candidate) => files.includes(candidate)),
        `${name} imports ${specifier}, which is not published`,
      )
    }
  }
})

for (const entry of ['index', 'observe/opentelemetry', 'observe/prometheus', 'redis/redis-store', 'store-tests']) {
  test(`${entry}: what is declared for \`require\` has every value that \`import\` gives`, async () => {
    const values = Object.keys((await import(`../../src/${entry}.ts`)) as object)

    const declarations = readFileSync(join(root, 'src', `${entry}.cts`), 'utf8')
    const declared = [...declarations.matchAll(/^export declare const (\w+)/gm)].map(([, name]) => name)

    assert.deepEqual(declared.sort(), values.sort())
  })
}

test('the top level of the repository is what a visitor expects', () => {
  const ignored = readFileSync(join(root, '.gitignore'), 'utf8').split('\n')
  const isIgnored = (name: string): boolean =>
    ignored.some(
      (line) => line === name || line === `${name}/` || (line.startsWith('*.') && name.endsWith(line.slice(1))),
    )

  const names = readdirSync(root).filter((name) => !name.startsWith('.') && !isIgnored(name))

  assert.deepEqual(names.sort(), [
    'CHANGELOG.md',
    'LICENSE',
    'README.md',
    'demo',
    'package-lock.json',
    'package.json',
    'src',
    'test',
    'tsconfig.json',
  ])
})

test('the lock file names no place to download from', () => {
  const lock = readFileSync(join(root, 'package-lock.json'), 'utf8')

  assert.doesNotMatch(lock, /"resolved"/)
})

function filesBelow(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join('/'))
}

function sources(): string[] {
  return readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.c?ts$/.test(name))
    .map((name) => name.split(sep).join('/'))
}
