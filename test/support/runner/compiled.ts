// Test files as plain JavaScript, one bundle each: a TypeScript loader in each of more than a hundred processes, and what
// it adds to every function, is a quarter of what all tests take together.
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build, type Plugin } from 'esbuild'

export interface Compiled {
  /** Has the tree of the repository, `.mjs` for `.ts`. */
  folder: string
  /** Where the compiled form of a file is. */
  pathOf(file: string): string
  /** Whether the file, or what it imports of this repository, imports the module. */
  reaches(file: string, module: string): boolean
  /** Whether tests stand in suites there. */
  hasSuites(file: string): Promise<boolean>
  /** Whether a test there replaces the timers of its process. */
  mocksTimers(file: string): Promise<boolean>
  remove(): Promise<void>
}

const recorder = fileURLToPath(new URL('record.ts', import.meta.url))
const preloaded = fileURLToPath(new URL('untracked.ts', import.meta.url))
const inTurn = fileURLToPath(new URL('files-in-turn.ts', import.meta.url))

const processes = 'test/support/processes'
/** Programs that are started as such. */
const programs = ['demo/main.ts', 'demo/nodes/node.ts', 'demo/recipes/cluster.ts', 'demo/recipes/many-nodes.ts']
const suites = /^import \{[^}]*\b(?:describe|suite)\b[^}]*\} from "node:test"/m

/**
 * Compiles files, named relative to `root`, and the helper processes that they start, into a folder of their own below it:
 * their packages are looked up from there.
 */
export async function compile(root: string, files: readonly string[]): Promise<Compiled> {
  // A folder of this name is neither committed nor linted.
  const parent = join(root, 'test', 'dist')
  await mkdir(parent, { recursive: true })
  const folder = await mkdtemp(join(parent, 'run-'))
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true })

  try {
    const { metafile } = await build({
      entryPoints: [...files, ...(await helpersIn(root)), recorder, preloaded, inTurn].map((file) => ({
        in: resolve(root, file),
        out: outputName(root, file),
      })),
      absWorkingDir: root,
      outdir: folder,
      bundle: true,
      // That the package has no side effects is true of src/, and not of test files that import others.
      ignoreAnnotations: true,
      packages: 'external',
      platform: 'node',
      format: 'esm',
      target: 'node20',
      outExtension: { '.js': '.mjs' },
      sourcemap: true,
      sourcesContent: false,
      metafile: true,
      logLevel: 'error',
      plugins: [keepOwnPlaces],
    })
    const inputs = new Map(
      Object.entries(metafile.outputs).map(([path, output]) => [resolve(root, path), Object.keys(output.inputs)]),
    )
    const textOf = (file: string): Promise<string> => readFile(pathOf(file), 'utf8')
    const pathOf = (file: string): string => join(folder, `${outputName(root, file)}.mjs`)
    return {
      folder,
      pathOf,
      reaches: (file, module) => inputs.get(pathOf(file))?.includes(module) ?? false,
      hasSuites: async (file) => suites.test(await textOf(file)),
      mocksTimers: async (file) => (await textOf(file)).includes('mock.timers.enable('),
      remove,
    }
  } catch (error) {
    await remove()
    throw error
  }
}

/** The compiled recorder, for whoever has a compiled file. */
export function recorderOf(compiled: Compiled): string {
  return compiled.pathOf(recorder)
}

/** What runs compiled files in a process. */
export function runnerOf(compiled: Compiled): string {
  return compiled.pathOf(inTurn)
}

/** What is loaded before a file that is not tracked; see there. */
export function untrackedOf(compiled: Compiled): string {
  return compiled.pathOf(preloaded)
}

async function helpersIn(root: string): Promise<string[]> {
  const names = await readdir(join(root, processes)).catch(() => [])
  const there = programs.filter((path) => existsSync(join(root, path)))
  return [...names.map((name) => `${processes}/${name}`), ...there]
}

function outputName(root: string, file: string): string {
  return relative(root, resolve(root, file)).replace(/\.ts$/, '').replaceAll('..', 'outside')
}

/** In a bundle `import.meta` is the bundle's; a file looks for its neighbours where it was written. */
const keepOwnPlaces: Plugin = {
  name: 'keep-own-places',
  setup({ initialOptions, onLoad }) {
    initialOptions.define = { 'import.meta.url': 'ownUrl', 'import.meta.dirname': 'ownFolder' }
    onLoad({ filter: /\.ts$/ }, async ({ path }) => {
      const places = { ownUrl: pathToFileURL(path).href, ownFolder: dirname(path) }
      const names = Object.entries(places).map(([name, value]) => `const ${name} = ${JSON.stringify(value)};`)
      // On the first line, so that the others keep their numbers.
      return { contents: names.join(' ') + (await readFile(path, 'utf8')), loader: 'ts' }
    })
  },
}
