// Compares this package with other proxies, on loopback and on one machine. `--help` tells the options.

import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { type Arguments, help, parseArguments } from './arguments.ts'
import { Comparison } from './comparison.ts'
import { compile } from './compile.ts'
import { contenders } from './contenders/index.ts'
import { families } from './measures/index.ts'
import { canPin, keepAwake } from './processes.ts'
import { type Report, toMarkdown } from './report.ts'

const folder = join(import.meta.dirname, 'results')

// A minute is what a quick comparison may take; where the machine is busy, that is better kept than figures are.
const quickTimes = { retriesMs: 8_000, atMostMs: 180_000 }
const roundRetriesMs = 12 * 60_000
const roundAtMostMs = 30 * 60_000

async function main(args: Arguments): Promise<void> {
  await compile()
  if (args.spin) keepAwake()
  const comparison = new Comparison({
    rounds: args.rounds,
    firstPort: args.port,
    tries: 3,
    ...(args.quick ? quickTimes : { retriesMs: args.rounds * roundRetriesMs, atMostMs: args.rounds * roundAtMostMs }),
    contenders: contenders.filter(({ name, quick }) => args.only?.includes(name) ?? (!args.quick || quick)),
    runs: families.flatMap(({ name, runs }) =>
      runs.filter((run) => {
        if (args.measures?.includes(run.name)) return true
        if (args.measures && !args.measures.includes(name)) return false
        return args.quick ? run.quick : run.quick !== 'only'
      }),
    ),
  })
  await comparison.play()

  const { results, skipped, failures } = comparison
  write({
    date: new Date().toISOString(),
    node: process.version,
    cpu: `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown CPU'}`,
    rounds: args.rounds,
    pinned: canPin,
    skipped: [...skipped].map(([name, reason]) => `${name} (${reason})`),
    results,
  })
  for (const failure of failures) console.error(`Failed: ${failure}`)
  process.exit(failures.length > 0 ? 1 : 0)
}

function write(report: Report): void {
  const markdown = toMarkdown(report)
  mkdirSync(folder, { recursive: true })
  const file = join(folder, report.date.replaceAll(':', '-').slice(0, 19))
  writeFileSync(`${file}.md`, `${markdown}\n`)
  writeFileSync(`${file}.json`, `${JSON.stringify(report, null, 2)}\n`)
  console.log(`${markdown}\n`)
  console.error(`Written to ${file}.md and .json`)
}

const given = parseArguments(process.argv.slice(2))
if (given === 'help') console.log(help)
else await main(given)
