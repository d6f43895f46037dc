// TypeScript's compiler, in a process of its own.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

/** The folder of one in `node_modules`. */
export type Compiler = 'typescript' | 'typescript-5.6' | 'typescript-5.9'

export interface TscOptions {
  compiler?: Compiler | undefined
  cwd?: string
  timeoutMs?: number
}

const modules = fileURLToPath(new URL('../../node_modules', import.meta.url))
const run = promisify(execFile)

/** Fails with what the compiler has printed. */
export async function tsc(
  args: readonly string[],
  { compiler = 'typescript', cwd, timeoutMs = 60_000 }: TscOptions = {},
): Promise<void> {
  // The native one shares its work among threads and collects its garbage: for a program that ends at once that is twice
  // the work, and the other tests want the processors too.
  const alone = compiler === 'typescript' ? ['--singleThreaded'] : []
  await run(process.execPath, [join(modules, compiler, 'bin', 'tsc'), ...args, ...alone], {
    cwd,
    timeout: timeoutMs,
    env: { ...process.env, GOGC: 'off' },
  }).catch((error: { stdout?: string; stderr?: string }) => {
    // The message of a failed program says only that it has failed.
    throw new Error(`it does not compile:\n${error.stdout}${error.stderr}`, { cause: error })
  })
}
