// Runs `fixtures/contract.mjs` in a project where http-proxy-middleware and httpxy are others than those of this
// repository: changed copies, or the newest. As a program it takes the `node_modules` that has the latter, tells what
// does not fit, and fails only when the process crashed.
import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const root = fileURLToPath(new URL('../..', import.meta.url))
const program = 'contract.mjs'

export interface Outcome {
  name: string
  isRight: boolean
  status: number | string
  code?: string
}

export interface Contract {
  exitCode: number | null
  /** The cases that did not have the outcome they should have. */
  wrong: Outcome[]
  output: string
}

/** A change of a file of httpxy's or http-proxy-middleware's, by replacement of text. */
export interface Change {
  package: 'httpxy' | 'http-proxy-middleware'
  file: string
  from: string
  to: string
}

/** @param modules where the two packages are taken from */
export async function runContract(
  changes: readonly Change[],
  modules: string = join(root, 'node_modules'),
): Promise<Contract> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'contract-')))
  try {
    await arrange(folder, modules)
    for (const change of changes) await apply(folder, change)
    return await run(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function arrange(folder: string, modules: string): Promise<void> {
  const into = join(folder, 'node_modules')
  const own = join(into, 'sse-proxy-middleware')
  await mkdir(own, { recursive: true })
  // Copies, since what is linked looks up its own dependencies from where it is.
  await copyInto(own, join(root, 'dist'), join(root, 'package.json'))
  await copyInto(into, join(modules, 'httpxy'), join(modules, 'http-proxy-middleware'))
  for (const name of await readdir(modules)) {
    if (!name.startsWith('.') && !name.startsWith('@')) await link(modules, into, name)
  }
  for (const name of ['debug', 'eventsource-parser']) await link(join(root, 'node_modules'), into, name)
  await cp(fileURLToPath(new URL(`fixtures/${program}`, import.meta.url)), join(folder, program))
}

/** As a program: Node's own `cp` computes for most of a second for so many files. */
async function copyInto(folder: string, ...paths: string[]): Promise<void> {
  await promisify(execFile)('cp', ['-R', ...paths, folder])
}

async function link(from: string, into: string, name: string): Promise<void> {
  await symlink(join(from, name), join(into, name)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
  })
}

async function apply(folder: string, change: Change): Promise<void> {
  const path = join(folder, 'node_modules', change.package, 'dist', change.file)
  const text = await readFile(path, 'utf8')
  if (!text.includes(change.from))
    throw new Error(`${change.package} has no ${change.from} to change in ${change.file}`)
  await writeFile(path, text.replaceAll(change.from, change.to))
}

function run(folder: string): Promise<Contract> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [program], { cwd: folder, timeout: 90_000 }, (_error, stdout, stderr) => {
      const outcomes = stdout
        .split('\n')
        .flatMap((line) => (line.startsWith('{"name"') ? [JSON.parse(line) as Outcome] : []))
      const wrong = outcomes.filter(({ isRight }) => !isRight)
      resolve({ exitCode: child.exitCode, wrong, output: stdout + stderr })
    })
  })
}

const [, started, modules] = process.argv
if (started === fileURLToPath(import.meta.url) && modules) {
  const { exitCode, output } = await runContract([], modules)
  for (const name of ['http-proxy-middleware', 'httpxy']) {
    const { version } = JSON.parse(await readFile(join(modules, name, 'package.json'), 'utf8')) as { version: string }
    console.log(`${name} ${version}`)
  }
  console.log(output)
  if (exitCode === 3) console.log('These releases do not fit: requests fail with them.')
  process.exitCode = exitCode === 0 || exitCode === 3 ? 0 : 1
}
