// Tables of medians over the rounds, and of ratios to bare piping.

import { baseOf, contenders, pipe } from './contenders/index.ts'
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

// Of the time; beyond, other programs were in the way.
const disturbedPct = 5
const saturatedPct = 90
// So many times a contender's speed should be that of the load generator by itself, or so much of what is due.
const headroom = 2
const nearlyAll = 0.95

const spareMark = '†'
const ceilingMark = '‡'
const disturbedMark = '~'
const legends = {
  [spareMark]: `${spareMark}: the proxy used less than ${saturatedPct} % of its CPU, so something else was the limit: compare the CPU instead.`,
  [ceilingMark]: `${ceilingMark}: the load generator by itself (direct) makes less than ${headroom} times this, or less than is due: it may have been the limit, so compare the CPU instead.`,
  [disturbedMark]: `${disturbedMark}: other programs were in the way each time.`,
}

/** How long the proxy, or the load generator, was kept from its CPU by other programs. */
export function disturbancePct({ waitPct = 0, loadWaitPct = 0 }: Figures): number {
  return Math.max(waitPct, loadWaitPct)
}

export function isDisturbed(figures: Figures): boolean {
  return disturbancePct(figures) > disturbedPct
}

export function toMarkdown(report: Report): string {
  const { date, node, cpu, rounds, pinned, skipped, results } = report
  const names = contenders.filter(({ name }) => results.some(({ contender }) => contender === name))
  const disturbed = results.filter(({ figures }) => isDisturbed(figures)).length
  const losses = results
    .filter(({ figures }) => (figures.lost ?? 0) > 0)
    .map(({ run, contender, figures }) => `${run}, ${contender} (${figures.lost})`)
  return [
    `${date}, Node ${node}, ${cpu}, ${rounds === 1 ? 'one round' : `medians of ${rounds} rounds`}; ` +
      `${pinned ? 'proxy and load generator on a CPU each' : 'not pinned to CPUs'}. ×: ratio to that of \`${pipe}\`.`,
    ...families.map((family) => table(family, results)).filter(Boolean),
    names.map(({ name, about }) => `- ${name}: ${about}`).join('\n'),
    ...(skipped.length > 0 ? [`Not measured: ${skipped.join('; ')}.`] : []),
    ...(disturbed > 0
      ? [
          `In ${disturbed} of ${results.length} runs the proxy or the load generator had to wait for its CPU for more than ` +
            `${disturbedPct} % of the time; they are left out where the same was measured undisturbed, and marked ${disturbedMark} elsewhere.`,
        ]
      : []),
    ...(losses.length > 0 ? [`Streams were refused or lost: ${losses.join('; ')}.`] : []),
  ].join('\n\n')
}

function table(family: Family, results: readonly Result[]): string {
  const columns = family.columns.filter(({ run }) => results.some((result) => result.run === run))
  const rows = contenders
    .map(({ name }) => name)
    .filter((name) => results.some(({ contender, run }) => contender === name && columns.some((c) => c.run === run)))
  if (rows.length === 0) return ''
  const lines = rows.map((name) => line([name, ...columns.map((column) => cell(name, column, results))]))
  const marks = Object.entries(legends).filter(([mark]) => lines.some((each) => each.includes(mark)))
  return [
    `### ${family.title}`,
    '',
    family.note,
    '',
    line(['', ...columns.map(({ heading }) => heading)]),
    `|---|${columns.map(() => '---:').join('|')}|`,
    ...lines,
    ...marks.flatMap(([, legend]) => ['', legend]),
  ].join('\n')
}

function line(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`
}

function cell(contender: string, column: Column, results: readonly Result[]): string {
  const value = medianOf(contender, column.run, column.value, results)
  if (value === undefined) return '–'
  const piping = baseOf(contender)
  const base = contender !== piping && column.ratio && medianOf(piping, column.run, column.value, results)
  // Of differences there may be none, or less.
  const ratio = isProxied(contender) && base && base > 0 && value > 0 ? ` (×${(value / base).toFixed(2)})` : ''
  const every = results.filter((result) => result.contender === contender && result.run === column.run)
  const disturbed = every.every(({ figures }) => isDisturbed(figures)) ? disturbedMark : ''
  return `${disturbed}${decimals(value)}${marksOf(contender, column, value, results)}${ratio}`
}

function marksOf(contender: string, column: Column, value: number, results: readonly Result[]): string {
  if (!isProxied(contender)) return ''
  const { run, saturates, due } = column
  const used = medianOf(contender, run, (figures) => figures.cpuPct, results)
  const direct = medianOf('direct', run, column.value, results)
  const hasSpare = saturates && used !== undefined && used < saturatedPct
  const isNearCeiling = saturates && direct !== undefined && direct < headroom * value
  const fallsShort = due !== undefined && direct !== undefined && Math.max(direct, value) < nearlyAll * due
  return `${hasSpare ? spareMark : ''}${isNearCeiling || fallsShort ? ceilingMark : ''}`
}

function isProxied(contender: string): boolean {
  return contender !== 'direct'
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
    .map(({ figures, round }) => pick(figures, isProxied(contender) ? directOf(run, round, results) : {}))
    .filter((value) => value !== undefined && Number.isFinite(value))
  return median(values)
}

/** Of the same round, unless that was disturbed and another was less so. */
function directOf(run: string, round: number, results: readonly Result[]): Figures | undefined {
  const all = results.filter((result) => result.contender === 'direct' && result.run === run)
  const same = all.find((result) => result.round === round)
  if (same && !isDisturbed(same.figures)) return same.figures
  return all.map(({ figures }) => figures).sort((a, b) => disturbancePct(a) - disturbancePct(b))[0]
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
