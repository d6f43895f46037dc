// The plots, fed once a second with the app's figures and with what the two lanes of this page have seen.
import 'uplot/dist/uPlot.min.css'
import './page.css'
import type { Figures } from '../figures.ts'
import { byId, make } from './elements.ts'
import { Plot } from './plot.ts'
import { seconds } from './verdicts.ts'

export interface LaneSilence {
  takeLongestSilence(): number
}

const whole = (value: number) => value.toLocaleString('en', { maximumFractionDigits: 0 })

export class FiguresPanel {
  readonly #streams = new Plot(
    'Open streams',
    [
      { label: 'this package', colour: 'accent' },
      { label: 'plain', colour: 'plain' },
    ],
    whole,
  )
  readonly #upstream = new Plot(
    'Upstream connections',
    [
      { label: 'clients', colour: 'ink' },
      { label: 'upstream', colour: 'accent' },
      { label: 'plain upstream', colour: 'plain' },
    ],
    whole,
  )
  readonly #events = new Plot('Events a second', [{ label: 'to clients', colour: 'accent' }], whole)
  readonly #first = new Plot('Time to first event', [{ label: 'mean', colour: 'accent', points: true }], seconds)
  readonly #silence = new Plot(
    'Longest gap between events',
    [
      { label: 'this package', colour: 'accent' },
      { label: 'plain', colour: 'plain' },
    ],
    seconds,
  )
  readonly #reasons = make('ul', { className: 'reasons' })
  #before: Figures | undefined

  constructor() {
    const reasons = make('figure', {}, make('figcaption', {}, 'Closes by reason'), this.#reasons)
    const plots = [this.#streams, this.#upstream, this.#events, this.#first, this.#silence]
    byId('plots', HTMLElement).append(...plots.map(({ element }) => element), reasons)
  }

  show(now: Figures, proxied: LaneSilence, plain: LaneSilence): void {
    const before = this.#before ?? now
    this.#before = now
    const at = now.at / 1000
    const passed = Math.max((now.at - before.at) / 1000, 0.001)
    const opened = now.firstEvents.count - before.firstEvents.count
    this.#streams.add(at, [now.clients.proxied, now.clients.plain])
    this.#upstream.add(at, [now.clients.proxied + now.clients.plain, now.upstream.proxied, now.upstream.plain])
    this.#events.add(at, [Math.max(0, (now.eventsOut - before.eventsOut) / passed)])
    this.#first.add(at, [opened > 0 ? ((now.firstEvents.seconds - before.firstEvents.seconds) / opened) * 1000 : null])
    this.#silence.add(at, [proxied.takeLongestSilence(), plain.takeLongestSilence()])
    this.#showReasons(now.closed)
  }

  #showReasons(closed: Readonly<Record<string, number>>): void {
    const most = Math.max(1, ...Object.values(closed))
    const rows = Object.entries(closed).map(([reason, count]) => {
      const row = make('li', { className: count === 0 ? 'none' : '' }, make('span', {}, reason))
      // Sizes as attributes: the page's policy allows no style in the markup.
      row.append(bar(count / most), make('b', {}, whole(count)))
      return row
    })
    this.#reasons.replaceChildren(...rows)
  }
}

function bar(share: number): SVGElement {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  svg.setAttribute('class', 'bar')
  svg.setAttribute('aria-hidden', 'true')
  const rect = document.createElementNS('http://www.w3.org/2000/svg', 'rect')
  rect.setAttribute('height', '100%')
  rect.setAttribute('rx', '2')
  // Hundreds beside ones are to be seen both.
  rect.setAttribute('width', `${Math.round(Math.sqrt(share) * 100)}%`)
  svg.append(rect)
  return svg
}
