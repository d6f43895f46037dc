// The command line.

import { parseArgs } from 'node:util'
import { contenders } from './contenders/index.ts'
import { families } from './measures/index.ts'

export interface Arguments {
  readonly quick: boolean
  readonly rounds: number
  /** Names of contenders; undefined means all that fit. */
  readonly only: readonly string[] | undefined
  /** Names of measures or of families of them. */
  readonly measures: readonly string[] | undefined
  readonly port: number
  readonly spin: boolean
}

// Below the ports that outgoing connections use.
const firstPort = 18_000

export const help = `npm run bench -- [options]

  --quick             direct, pipe, this package and share, few measures, under a minute
  --only a,b          contenders: ${contenders.map(({ name }) => name).join(', ')}
  --measures a,b      measures, or families of them: ${[...new Set(families.map(({ name }) => name))].join(', ')}
  --rounds n          medians of so many rounds, each with all contenders in turn (default 3, with --quick 1)
  --port n            the first of the ports to use (default ${firstPort})
  --no-spin           let the proxy's CPU halt between events
`

export function parseArguments(args: string[]): Arguments | 'help' {
  const { values } = parseArgs({
    args,
    options: {
      quick: { type: 'boolean', default: false },
      only: { type: 'string' },
      measures: { type: 'string' },
      rounds: { type: 'string' },
      port: { type: 'string', default: String(firstPort) },
      'no-spin': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return 'help'
  return {
    quick: values.quick,
    rounds: count('--rounds', values.rounds ?? (values.quick ? '1' : '3')),
    only: names(
      '--only',
      values.only,
      contenders.map(({ name }) => name),
    ),
    measures: names(
      '--measures',
      values.measures,
      families.flatMap(({ name, runs }) => [name, ...runs.map((run) => run.name)]),
    ),
    port: count('--port', values.port),
    spin: !values['no-spin'],
  }
}

function count(option: string, text: string): number {
  const number = Number(text)
  if (!Number.isInteger(number) || number < 1) throw new Error(`${option}: expected a number, got "${text}"`)
  return number
}

function names(option: string, text: string | undefined, known: readonly string[]): readonly string[] | undefined {
  if (text === undefined) return undefined
  const given = text.split(',')
  for (const name of given) {
    if (!known.includes(name))
      throw new Error(`${option}: there is no ${name}; there are ${[...new Set(known)].join(', ')}`)
  }
  return given
}
