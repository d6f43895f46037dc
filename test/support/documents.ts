// The README and the guides as their reader takes them: programs that are copied out and run, tables that are believed, and
// links that are followed.
import { fork } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { after, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Child } from './processes/child.ts'
import { tsc } from './tsc.ts'

export const root: string = fileURLToPath(new URL('../..', import.meta.url))

export interface Document {
  /** Relative to the repository. */
  path: string
  text: string
}

export const readme: Document = document('README.md')

/** What the README links to for those who want to know more. */
export const guides: readonly Document[] = readdirSync(join(root, 'demo', 'guides'))
  .filter((name) => name.endsWith('.md'))
  .sort()
  .map((name) => document(`demo/guides/${name}`))

export function guide(name: string): Document {
  const found = guides.find(({ path }) => basename(path, '.md') === name)
  if (!found) throw new Error(`there is no guide ${name}`)
  return found
}

function document(path: string): Document {
  return { path, text: readFileSync(join(root, path), 'utf8') }
}

export interface Block {
  /** Where it begins: `README.md:10`. */
  place: string
  /** The heading above it. */
  section: string
  language: string
  /** The code, after as many empty lines as stand before it in the document: messages name the document's own lines. */
  code: string
}

/** The code blocks in one of these languages, in order. */
export function blocks({ path, text }: Document, ...languages: string[]): Block[] {
  const fences = new RegExp(`^\`\`\`(${languages.join('|')})\\n(.*?)^\`\`\``, 'gms')
  return [...text.matchAll(fences)].map(({ index, 1: language = '', 2: code = '' }) => {
    const before = text.slice(0, index).split('\n')
    const heading = before.findLast((line) => /^#+ /.test(line)) ?? ''
    const place = `${path}:${before.length + 1}`
    return { place, section: heading.replace(/^#+ /, ''), language, code: '\n'.repeat(before.length) + code }
  })
}

/** The comment on the first line of a block, where it has one: `in the browser`, `needs redis-server`. */
export function remark({ code }: Block): string {
  return /^\s*\/\/ (.*)/.exec(code)?.[1] ?? ''
}

/** The text under a heading of the second level. */
export function section({ path, text }: Document, title: string): string {
  const found = new RegExp(`^## ${title}\\n(.*?)(?=^## |(?![^]))`, 'ms').exec(text)?.[1]
  if (found === undefined) throw new Error(`${path} has no section ${title}`)
  return found
}

/** The cells of all tables in a text, row by row, without their heads. */
export function rows(text: string): string[][] {
  const lines = text.split('\n')
  const isHead = (i: number) => /^\|[-|]+\|$/.test(lines[i + 1] ?? '')
  return lines
    .filter((line, i) => line.startsWith('|') && !/^\|[-|]+\|$/.test(line) && !isHead(i))
    .map((line) =>
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )
}

/** What stands between backticks. */
export function spans(text: string): string[] {
  return [...text.matchAll(/`([^`\n]+)`/g)].map(([, span = '']) => span)
}

/** Where the links of a document lead, less those to other places. */
export function links({ text }: Document): string[] {
  const all = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = '']) => link)
  return all.filter((link) => !/^(https?|mailto):/.test(link))
}

/** What a link may name behind its `#`. */
export function anchors({ text }: Document): string[] {
  const headings = [...text.replace(/^```.*?^```/gms, '').matchAll(/^#+ (.*)/gm)].map(([, heading = '']) => heading)
  return headings.map((heading) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )
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
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'documents-')))
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  await writeFile(join(folder, 'package.json'), '{ "private": true, "type": "module" }')
  await link(root, join(folder, 'node_modules', 'sse-proxy-middleware'))
  for (const name of Object.keys({ ...dependencies, ...devDependencies })) {
    // Those that are there in two versions.
    await link(join(root, 'node_modules', name), join(folder, 'node_modules', name.replace(/^(i?o?redis)-6$/, '$1')))
  }
  return folder
}

async function link(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true })
  await symlink(from, to)
}

/** Programs in JavaScript need not say what may be undefined, nor of what type their parameters are. */
const STRICTNESS = { js: { strictNullChecks: false, noImplicitAny: false }, ts: {} }

/** Checks the types of the blocks as they stand. */
export async function typecheck(project: string, programs: readonly Block[]): Promise<void> {
  await Promise.all((['js', 'ts'] as const).map((language) => typecheckThose(project, programs, language)))
}

async function typecheckThose(project: string, programs: readonly Block[], language: 'js' | 'ts'): Promise<void> {
  const those = programs.filter((program) => program.language === language)
  if (those.length === 0) return
  const folder = join(project, language)
  const compilerOptions = {
    ...{ module: 'NodeNext', target: 'ES2023', lib: ['ES2023', 'DOM', 'DOM.Iterable'], types: ['node'] },
    ...{ allowJs: true, checkJs: true, moduleDetection: 'force', noEmit: true, skipLibCheck: true },
    ...{ strict: true, ...STRICTNESS[language] },
  }
  const files = those.map((block) => `${nameOf(block)}.${language}`)
  await mkdir(folder, { recursive: true })
  await Promise.all(those.map(({ code }, i) => writeFile(join(folder, files[i]!), code)))
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }))
  await tsc(['--project', folder])
}

/** A file name that says where a block is. */
export function nameOf({ place }: Block): string {
  return place.replace(/[/:]/g, '-')
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
