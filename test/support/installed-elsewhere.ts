// Packages too large for every checkout: what is installed somewhere else is found by its program on the PATH.
import { existsSync, realpathSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** The `node_modules` that has this program, where it is on the PATH. */
export function modulesWith(program: string): string | undefined {
  const found = (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, program))
    .find((path) => existsSync(path))
  if (!found) return undefined
  const binary = realpathSync(found)
  return binary.slice(0, binary.lastIndexOf('node_modules') + 'node_modules'.length)
}

/** Why its tests are skipped, or false. */
export function missing(program: string): string | false {
  return modulesWith(program) ? false : `${program} is not installed`
}

/** A package from there. Its types are not here: what a test uses of it, the test says. */
export async function importFrom<Module>(program: string, name: string): Promise<Module> {
  const modules = modulesWith(program)
  if (!modules) throw new Error(`${program} is not installed`)
  const path = createRequire(join(dirname(modules), 'index.js')).resolve(name)
  return await import(pathToFileURL(path).href)
}
