// Makes plain JavaScript of what is measured and what measures: neither should carry a TypeScript loader along.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { build, stop } from 'esbuild'

const here = import.meta.dirname
// A folder of this name is neither committed nor linted.
const output = join(here, 'dist')

export async function compile(): Promise<void> {
  await build({
    entryPoints: ['load/main.ts', ...readdirSync(join(here, 'contenders')).map((name) => `contenders/${name}`)],
    absWorkingDir: here,
    outdir: output,
    outbase: here,
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    target: 'node20',
    outExtension: { '.js': '.mjs' },
  })
  // Nothing but what is measured should be running.
  await stop()
}

/** The compiled form of a script, named without its extension. */
export function compiled(script: string): string {
  return join(output, `${script}.mjs`)
}
