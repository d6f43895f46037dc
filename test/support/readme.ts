// The README as its reader takes it: programs that are copied out and run, and tables that are believed.
import { execFile, fork } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Child } from './processes/child.ts'

const run = promisify(execFile)

export const root: string = fileURLToPath(new URL('../..', import.meta.url))
export const readme: string = readFileSync(join(root, 'README.md'), 'utf8')

export interface Block {
  /** The heading above it. */
  section: string
  /** The code, after as many empty lines as stand before it in the README: messages name the README's own lines. */
  code: string
}

/** The code blocks of a language, in order. */
export function blocks(language: string): Block[] {
  return [...readme.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gms'))].map(({ index, 1: code = '' }) => {
    const before = readme.slice(0, index).split('\n')
    const heading = before.findLast((line) => /^#+ /.test(line)) ?? ''
    return { section: heading.replace(/^#+ /, ''), code: '\n'.repeat(before.length) + code }
  })
}

/** The text under a heading of the second level. */
export function section(title: string): string {
  const text = new RegExp(`^## ${title}\\n(.*?)(?=^## |(?![^]))`, 'ms').exec(readme)?.[1]
  if (text === undefined) throw new Error(`the README has no section ${title}`)
  return text
}

/** The cells of the table under a heading, row by row, without its head. */
export function table(title: string): string[][] {
  const lines = section(title)
    .split('\n')
    .filter((line) => line.startsWith('|'))
  return lines.slice(2).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
}

/** What stands between backticks. */
export function spans(text: string): string[] {
  return [...text.matchAll(/`([^`\n]+)`/g)].map(([, span = '']) => span)
}

/** A folder in which the package, what it goes with and their types are installed, for the time of a test file. */
export function projectForFile(): () => Promise<string> {
  let made: Promise<string> | undefined
  after(async () => made && (await rm(await made, { recursive: true, force: true })))

  return () => {
    made ??= makeProject()
    return made
  }
}

async function makeProject(): Promise<string> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'readme-')))
  const installed = ['express', 'prom-client', '@types/node', '@types/express']
  await writeFile(join(folder, 'package.json'), '{ "private": true, "type": "module" }')
  await link(root, join(folder, 'node_modules', 'sse-proxy-middleware'))
  for (const name of installed) await link(join(root, 'node_modules', name), join(folder, 'node_modules', name))
  return folder
}

async function link(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true })
  await symlink(from, to)
}

/** Checks the types of the blocks as they stand; handlers may leave the types of their parameters open. */
export async function typecheck(project: string, programs: Block[]): Promise<void> {
  const files = programs.map((_, i) => `block-${i + 1}.js`)
  const compilerOptions = {
    module: 'NodeNext',
    target: 'ES2023',
    types: ['node'],
    allowJs: true,
    checkJs: true,
    strict: true,
    noImplicitAny: false,
    noEmit: true,
    skipLibCheck: true,
  }
  await Promise.all(programs.map(({ code }, i) => writeFile(join(project, `block-${i + 1}.js`), code)))
  await writeFile(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }))
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  await run(process.execPath, [compiler, '--project', project], { cwd: project, timeout: 60_000 }).catch(
    ({ stdout }) => {
      throw new Error(`a program of the README has wrong types:\n${stdout}`)
    },
  )
}

export interface Changes {
  /** What stands in the block, and what stands there in the test: other ports, other hosts. */
  instead?: Record<string, string>
  /** Lines after it. In the end there must be a `server`, which listens or is about to. */
  then?: string
  /** What the test asks for by name: bodies of arrow functions of its `input`. */
  tells?: Record<string, string>
  env?: NodeJS.ProcessEnv
}

export interface Program {
  /** Where its server listens. */
  url: string
  child: Child
}

let programs = 0

/** Runs the block as a program of its own, in plain Node, until the test is over. */
export async function runBlock(
  t: TestContext,
  project: string,
  block: Block,
  { instead = {}, then = '', tells = {}, env = {} }: Changes,
): Promise<Program> {
  const file = join(project, `program-${++programs}.js`)
  await writeFile(file, replaced(block.code, instead) + then + answering(tells))
  const child = new Child(
    fork(file, {
      execArgv: [],
      env: { ...process.env, NODE_OPTIONS: '', ...env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    }),
  )
  t.after(() => child.end())
  return { url: `http://127.0.0.1:${await child.ask<number>('port')}`, child }
}

function replaced(code: string, instead: Record<string, string>): string {
  return Object.entries(instead).reduce((text, [from, to]) => {
    if (!text.includes(from)) throw new Error(`the block does not contain ${from}`)
    return text.replace(from, () => to)
  }, code)
}

function answering(tells: Record<string, string>): string {
  const cases = Object.entries(tells).map(([name, value]) => `${JSON.stringify(name)}: (input) => ${value},`)
  return `
const answers = {
  port: () => server.address()?.port ?? new Promise((resolve) => server.once('listening', () => resolve(server.address().port))),
  ${cases.join('\n  ')}
}
process.on('message', async ({ id, name, input }) => process.send({ id, answer: await answers[name](input) }))
process.once('disconnect', () => process.exit(1))
`
}
