// The load generator: runs one measure against one proxy and sends the figures to the process that started it.

import { families, warmUp } from '../measures/index.ts'
import type { Usage } from '../usage.ts'
import { type Figures, Load, type LoadPlace } from './load.ts'

/** What is asked of a load generator. */
export interface Assignment extends LoadPlace {
  readonly run: string
}

/** Without anything where there is no proxy. */
export interface UsageAnswer {
  readonly usage?: Usage | undefined
}

export type LoadMessage = { readonly ask: 'usage' } | { readonly figures: Figures }

const patienceMs = 90_000

function tell(message: LoadMessage): void {
  process.send?.(message)
}

function usage(): Promise<Usage | undefined> {
  return new Promise((resolve) => {
    process.once('message', (answer: UsageAnswer) => resolve(answer.usage))
    tell({ ask: 'usage' })
  })
}

async function work({ run: name, ...place }: Assignment): Promise<void> {
  const run = [warmUp, ...families.flatMap(({ runs }) => runs)].find((candidate) => candidate.name === name)
  if (!run) throw new Error(`there is no measure ${name}`)
  const load = new Load(place, run.settings.bytes ?? 200, usage)
  await load.upstream.listening()
  const figures = await run.measure(load, run.settings)
  const left = await load.closeAll()
  tell({ figures: { ...figures, lost: load.lost, left } })
}

process.once('disconnect', () => process.exit())
setTimeout(() => process.exit(3), patienceMs).unref()
await work(JSON.parse(process.argv[2] ?? '{}'))
process.disconnect()
