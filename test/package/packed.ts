// The package as npm would publish it, and throw-away projects that have it installed. Nothing comes from the network:
// what a project depends on is linked from this repository's own node_modules, and nothing else is there.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readFile, realpath, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join, relative } from 'node:path'
import { after } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type Compiler, tsc } from '../support/tsc.ts'
import { until } from '../support/waiting.ts'

const run = promisify(execFile)

export const root: string = fileURLToPath(new URL('../..', import.meta.url))
const fixtures = fileURLToPath(new URL('fixtures', import.meta.url))

export interface Packed {
  /** The paths inside the tarball. */
  files: string[]
  /** Where the tarball is unpacked. */
  folder: string
  dependencies: string[]
}

/** A copy of the repository, built from nothing and packed: once for all test files that run together, or else for this one. */
export function packedForFile(): () => Promise<Packed> {
  let temp: string | undefined
  let packed: Promise<Packed> | undefined
  after(() => temp && rm(temp, { recursive: true, force: true }))

  return () => {
    packed ??= mkdtemp(join(tmpdir(), 'packed-')).then(async (folder) => {
      temp = folder
      const shared = process.env.TEST_SHARED
      const tarball = shared === undefined ? await pack(folder) : await packOnce(join(shared, 'packed'))
      return unpack(tarball, folder)
    })
    return packed
  }
}

/** The first test file makes the folder, and with it the tarball; the others wait for that. */
async function packOnce(folder: string): Promise<Tarball> {
  const done = join(folder, 'tarball.json')
  const isFirst = await mkdir(folder).then(
    () => true,
    () => false,
  )
  if (isFirst) {
    const tarball = await pack(folder).catch((error) => ({ error: String(error) }))
    await writeFile(`${done}.part`, JSON.stringify(tarball))
    await rename(`${done}.part`, done)
  }
  await until(() => existsSync(done), 'the tarball', 120_000)
  const tarball = JSON.parse(await readFile(done, 'utf8')) as Tarball | { error: string }
  if ('error' in tarball) throw new Error(tarball.error)
  return tarball
}

async function pack(temp: string): Promise<Tarball> {
  const copy = join(temp, 'repository')
  const left = ['node_modules', 'dist', '.git']
  await cp(root, copy, {
    recursive: true,
    filter: (path) => !(left.includes(basename(path)) && ['', 'test'].includes(relative(root, dirname(path)))),
  })
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'))

  const { stdout } = await run('npm', ['pack', '--json', '--silent', '--pack-destination', temp], {
    cwd: copy,
    timeout: 60_000,
  }).catch(withOutput('the package does not build'))
  // A list of one, or an object with the package's name as its key: npm has done both.
  const [tarball] = Object.values(JSON.parse(stdout) as Record<string, Tarball>)
  if (!tarball) throw new Error(`npm pack tells of no tarball: ${stdout}`)

  return { ...tarball, filename: join(temp, tarball.filename) }
}

async function unpack(tarball: Tarball, temp: string): Promise<Packed> {
  await run('tar', ['-xzf', tarball.filename, '-C', temp], { timeout: 30_000 })
  const folder = join(temp, 'package')
  const manifest = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>
  }
  return {
    files: tarball.files.map(({ path }) => path).sort(),
    folder,
    dependencies: Object.keys(manifest.dependencies),
  }
}

export interface ProjectOptions {
  type: 'module' | 'commonjs'
  /** The file of `fixtures/` that the project consists of. */
  program: string
  /** Others of these files. */
  besides?: string[]
  /** What it has installed beside the package and that package's own dependencies. */
  installed?: string[]
  tsconfig?: object
}

export interface Project {
  folder: string
  /** Runs a script of the project's and gives back what it printed; a failure carries its output. */
  node(script: string): Promise<{ stdout: string; stderr: string }>
  /** Compiles the projects in these folders below it, in one process; without any, the project itself. */
  tsc(compiler?: Compiler, folders?: string[]): Promise<void>
}

/** A project of its own, which lives as long as the packed tarball. */
export async function installIn(packed: Packed, options: ProjectOptions): Promise<Project> {
  const { type, program, besides = [], installed = [], tsconfig } = options
  // A real path, so that the package's imports are looked up from where it is installed, as they are for a user.
  const folder = await realpath(await mkdtemp(join(dirname(packed.folder), 'project-')))
  await writeFile(join(folder, 'package.json'), JSON.stringify({ name: 'project', private: true, type }))
  for (const name of [program, ...besides]) await cp(join(fixtures, name), join(folder, name))
  if (tsconfig) await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(tsconfig))

  const modules = join(folder, 'node_modules')
  await mkdir(modules)
  // Node's own `cp` computes for most of a second for so many files.
  await run('cp', ['-R', packed.folder, join(modules, 'sse-proxy-middleware')])
  for (const name of [...packed.dependencies, ...installed]) {
    await mkdir(dirname(join(modules, name)), { recursive: true })
    await symlink(join(root, 'node_modules', name), join(modules, name))
  }

  return {
    folder,
    // A test in it reports to whoever has started it, and not to this process's runner.
    node: (script) =>
      run(process.execPath, [script], {
        cwd: folder,
        timeout: 30_000,
        env: { ...process.env, NODE_TEST_CONTEXT: undefined },
      }),
    tsc: (compiler, folders = ['.']) =>
      tsc(['--build', ...folders], { compiler, cwd: folder, timeoutMs: 60_000 + 20_000 * folders.length }),
  }
}

/** As npm tells of it, with its whole path. */
interface Tarball {
  filename: string
  files: { path: string }[]
}

/** The message of a failed program says only that it has failed; what it printed says why. */
function withOutput(what: string): (error: { stdout?: string; stderr?: string }) => never {
  return (error) => {
    throw new Error(`${what}:\n${error.stdout}${error.stderr}`, { cause: error })
  }
}
