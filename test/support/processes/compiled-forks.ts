// Loaded before a compiled program of the demo: the processes that it starts from TypeScript, as it does for a visitor, are
// compiled as well. Most of the start of such a process is a loader otherwise.
import childProcess, { type ChildProcess, type ForkOptions } from 'node:child_process'
import cluster from 'node:cluster'
import { existsSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const fromSource = '--import tsx'
const root = fileURLToPath(new URL('../../..', import.meta.url))
const compiled = process.env.TEST_COMPILED

/** What is to be run; as it was wanted, where that is not a program from source, or one that nobody has compiled. */
function compiledForm(path: string, execArgv: string[] = []): { path: string; execArgv: string[] } {
  const form = join(compiled ?? '', relative(root, path).replace(/\.ts$/, '.mjs'))
  const isFromSource = execArgv.join(' ') === fromSource && existsSync(path)
  return isFromSource && existsSync(form) ? { path: form, execArgv: [] } : { path, execArgv }
}

if (compiled !== undefined) {
  const { fork } = childProcess
  childProcess.fork = (file: string | URL, ...rest: (readonly string[] | ForkOptions | undefined)[]): ChildProcess => {
    const args = rest.find((given) => Array.isArray(given)) ?? []
    const options = rest.find((given): given is ForkOptions => typeof given === 'object' && !Array.isArray(given)) ?? {}
    const { path, execArgv } = compiledForm(String(file), options.execArgv)
    return fork(path, args, { ...options, execArgv })
  }
  const { setupPrimary } = cluster
  // Each fork of a cluster calls it once more, without settings.
  cluster.setupPrimary = (settings) => {
    const { path: exec, execArgv } = compiledForm(settings?.exec ?? '', settings?.execArgv)
    setupPrimary.call(cluster, settings && { ...settings, exec, execArgv })
  }
  syncBuiltinESMExports()
}
