// A small plot of the last two minutes. The caption carries the current values, for whoever cannot see the curves.
import uPlot from 'uplot'
import { make } from './elements.ts'

export interface Series {
  readonly label: string
  readonly colour: 'accent' | 'plain' | 'ink'
  /** Single values rather than a curve. */
  readonly points?: boolean
}

const seconds = 120

export class Plot {
  readonly element: HTMLElement
  readonly #area = make('div', { className: 'plot' })
  readonly #values: HTMLElement[]
  readonly #format: (value: number) => string
  readonly #data: [number[], ...(number | null)[][]]
  readonly #plot: uPlot

  constructor(title: string, series: readonly Series[], format: (value: number) => string) {
    this.#format = format
    this.#values = series.map(() => make('b', {}, '–'))
    const keys = series.map(({ label, colour }, i) =>
      make('span', { className: `key ${colour}` }, `${label} `, this.#values[i] ?? ''),
    )
    this.element = make(
      'figure',
      {},
      make('figcaption', {}, make('span', {}, title), make('span', { className: 'keys' }, ...keys)),
      this.#area,
    )
    this.#area.setAttribute('aria-hidden', 'true')
    this.#data = [[], ...series.map(() => [])]
    this.#plot = new uPlot(optionsFor(series, format), this.#data, this.#area)
    new ResizeObserver(() => this.#resize()).observe(this.#area)
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#plot.redraw(false))
  }

  add(atSeconds: number, values: readonly (number | null)[]): void {
    const [times, ...columns] = this.#data
    times.push(atSeconds)
    for (const [i, column] of columns.entries()) column.push(values[i] ?? null)
    if (times.length > seconds) for (const column of this.#data) column.shift()
    values.forEach((value, i) => {
      const shown = this.#values[i]
      if (shown && value !== null) shown.textContent = this.#format(value)
    })
    this.#plot.setData(this.#data, false)
    this.#plot.setScale('x', { min: atSeconds - seconds, max: atSeconds })
  }

  #resize(): void {
    const { clientWidth: width, clientHeight: height } = this.#area
    if (width > 0) this.#plot.setSize({ width, height })
  }
}

function optionsFor(series: readonly Series[], format: (value: number) => string): uPlot.Options {
  const axis = { stroke: () => colour('soft'), font: '11px system-ui, sans-serif', ticks: { show: false } }
  const grid = { stroke: () => colour('line'), width: 1 }
  return {
    width: 300,
    height: 132,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: false }, y: { range: (_plot, _min, max) => [0, niceCeiling(max ?? 0)] } },
    axes: [
      {
        ...axis,
        size: 22,
        gap: 5,
        grid: { show: false },
        splits: (_plot, _axis, _min, max) => [max - 120, max - 60, max],
        values: (_plot, splits) => splits.map((_, i) => ['2 min', '1 min', 'now'][i] ?? ''),
      },
      { ...axis, size: 46, gap: 4, grid, values: (_plot, splits) => splits.map(format), space: 28 },
    ],
    padding: [6, 18, 0, 0],
    series: [
      {},
      ...series.map(({ colour: name, points = false, label }) => ({
        label,
        stroke: () => colour(name),
        width: 2,
        ...(name === 'ink' && { dash: [4, 3], width: 1.5 }),
        points: { show: points, size: 5, fill: () => colour(name) },
        ...(points && { paths: () => null }),
      })),
    ],
  }
}

function niceCeiling(max: number): number {
  const unit = 10 ** Math.floor(Math.log10(Math.max(max, 4)))
  return [1, 2, 5, 10].map((step) => step * unit).find((ceiling) => ceiling >= max) ?? 4
}

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()
}
