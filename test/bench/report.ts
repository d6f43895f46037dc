// Tables of medians over the rounds, and of ratios to bare piping.

import { contenders, pipe } from './contenders/index.ts'
import type { Figures } from './load/load.ts'
import { families } from './measures/index.ts'
import type { Column, Family } from './measures/measure.ts'

export interface Result {
  readonly round: number
  readonly contender: string
  readonly run: string
  readonly figures: Figures
}

export interface Report {
  readonly date: string
  readonly node: string
  readonly cpu: string
  readonly rounds: number
  readonly pinned: boolean
  readonly skipped: readonly string[]
  readonly results: readonly Result[]
}

// Of the time; beyond, another program was in the proxy's way.
const disturbedPct = 5
const saturatedPct = 90

export function isDisturbed({ waitPct = 0 }: Figures): boolean {
  return waitPct > disturbedPct
}

export function toMarkdown(report: Report): string {
  const { date, node, cpu, rounds, pinned, skipped, results } = report
  const names = contenders.filter(({ name }) => results.some(({ contender }) => contender === name))
  const disturbed = results.filter(({ figures }) => isDisturbed(figures)).length
  return [
    `${date}, Node ${node}, ${cpu}, ${rounds === 1 ? 'one round' : `medians of ${rounds} rounds`}; ` +
      `${pinned ? 'proxy and load generator on a CPU each' : 'not pinned to CPUs'}. ×: ratio to \`${pipe}\` in the same run.`,
    ...families.map((family) => table(family, results)).filter(Boolean),
    names.map(({ name, about }) => `- ${name}: ${about}`).join('\n'),
    ...(skipped.length > 0 ? [`Not measured: ${skipped.join('; ')}.`] : []),
    ...(disturbed > 0
      ? [
          `In ${disturbed} of ${results.length} runs the proxy had to wait for its CPU for more than ${disturbedPct} % of the time; ` +
            'they are left out where the same was measured undisturbed.',
        ]
      : []),
  ].join('\n\n')
}

function table(family: Family, results: readonly Result[]): string {
  const columns = family.columns.filter(({ run }) => results.some((result) => result.run === run))
  const rows = contenders
    .map(({ name }) => name)
    .filter((name) => results.some(({ contender, run }) => contender === name && columns.some((c) => c.run === run)))
  if (rows.length === 0) return ''
  return [
    `### ${family.title}`,
    '',
    family.note,
    '',
    line(['', ...columns.map(({ heading }) => heading)]),
    `|---|${columns.map(() => '---:').join('|')}|`,
    ...rows.map((name) => line([name, ...columns.map((column) => cell(name, column, results))])),
  ].join('\n')
}

function line(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`
}

function cell(contender: string, column: Column, results: readonly Result[]): string {
  const value = medianOf(contender, column.run, column.value, results)
  if (value === undefined) return '–'
  const proxied = contender !== 'direct'
  const used = medianOf(contender, column.run, (figures) => figures.cpuPct, results)
  const idle = proxied && column.saturates && used !== undefined && used < saturatedPct ? '†' : ''
  const piped = proxied && contender !== pipe && column.ratio && medianOf(pipe, column.run, column.value, results)
  return `${decimals(value)}${idle}${piped ? ` (×${(value / piped).toFixed(2)})` : ''}`
}

function medianOf(
  contender: string,
  run: string,
  pick: Column['value'],
  results: readonly Result[],
): number | undefined {
  const all = results.filter((result) => result.contender === contender && result.run === run)
  const undisturbed = all.filter(({ figures }) => !isDisturbed(figures))
  const values = (undisturbed.length > 0 ? undisturbed : all)
    .map(({ figures, round }) => pick(figures, directOf(run, round, results)))
    .filter((value) => value !== undefined && Number.isFinite(value))
  return median(values)
}

function directOf(run: string, round: number, results: readonly Result[]): Figures | undefined {
  return results.find((result) => result.contender === 'direct' && result.run === run && result.round === round)
    ?.figures
}

function median(values: readonly (number | undefined)[]): number | undefined {
  const sorted = values.filter((value) => value !== undefined).sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle]
  const lower = sorted[sorted.length % 2 === 1 ? middle : middle - 1]
  return upper === undefined || lower === undefined ? undefined : (upper + lower) / 2
}

function decimals(value: number): string {
  const size = Math.abs(value)
  return Number.isInteger(value) || size >= 100 ? value.toFixed(0) : value.toFixed(size >= 10 ? 1 : 2)
}
