// What comes over the wire, fit for reading: events in a row are one line that grows, everything else is a line of its own.
import { make } from './elements.ts'

const kept = 12

export class Tape {
  readonly element: HTMLOListElement
  // The line that grows while more of the same comes.
  #row: { kind: string; first: string; count: number; text: HTMLElement; times: HTMLElement } | undefined

  constructor(label: string) {
    this.element = make('ol', { className: 'tape' })
    this.element.setAttribute('aria-label', label)
  }

  event(id: string): void {
    if (this.#row?.kind !== 'events') this.#begin('events', id)
    this.#grow((first) => (first === id ? `id: ${id}` : `id: ${first} … ${id}`), 'event')
  }

  comment(text: string): void {
    if (this.#row?.kind !== 'comment' || this.#row.first !== text) this.#begin('comment', text)
    this.#grow((first) => first, 'comment')
  }

  /** Bytes that are no whole event, as they came. */
  raw(text: string): void {
    this.#begin('raw', text)
    this.#grow((first) => first.replaceAll('\n', '⏎'), '')
  }

  /** Something that happened to the connection. */
  mark(text: string): void {
    this.#begin('mark', text)
    this.#grow((first) => first, '')
  }

  #begin(kind: string, first: string): void {
    const [text, times] = [make('span', { className: 'text' }), make('span', { className: 'times' })]
    this.#row = { kind, first, count: 0, text, times }
    this.element.append(make('li', { className: kind }, text, times))
    if (this.element.childElementCount > kept) this.element.firstElementChild?.remove()
  }

  #grow(describe: (first: string) => string, unit: string): void {
    const row = this.#row
    if (!row) return
    row.count += 1
    row.text.textContent = describe(row.first)
    if (unit && row.count > 1) row.times.textContent = `${row.count} ${unit}s`
  }
}
