// One of the two routes: its stream, what is seen of it, and a record of what happened for whoever wants to judge.
import { byId, make } from './elements.ts'
import { type ReaderState, StreamReader } from './stream-reader.ts'
import { Tape } from './tape.ts'

/** What happened on a lane since the record was begun. */
export interface LaneRecord {
  events: number
  missed: number
  repeated: number
  comments: number
  /** The longest time without an event. */
  silenceMs: number
  endings: { readonly kind: 'complete' | 'broken'; readonly tail: string }[]
  retryMs: number | undefined
  /** The status on which the client gave up, where it did. */
  gaveUp: number | undefined
}

const stateTexts: Record<ReaderState, string> = {
  connecting: 'connecting',
  live: 'live',
  waiting: 'waiting to reconnect',
  'given-up': 'given up',
  closed: 'closed',
}

export class Lane {
  readonly #reader: StreamReader
  readonly #tape: Tape
  readonly #counter = make('p', { className: 'counter' }, '–')
  readonly #missed = make('dd', {}, '0')
  readonly #silence = make('dd', {}, '–')
  readonly #state = make('p', { className: 'state' })
  readonly #stateText = make('span')
  readonly #again = make('button', { type: 'button', hidden: true }, 'Open again')
  readonly #records = new Set<LaneRecord>()
  #readerState: ReaderState = 'closed'
  #n = 0
  #missedTotal = 0
  #lastEventAt = performance.now()
  // The longest silence since it was last asked for, for the plot.
  #silenceMs = 0

  constructor(id: string, url: string) {
    const element = byId(id, HTMLElement)
    this.#tape = new Tape(`What comes over ${url}`)
    this.#state.append(make('span', {}, make('span', { className: 'dot' }), this.#stateText), this.#again)
    this.#state.setAttribute('role', 'status')
    const numbers = make('dl', {}, make('dt', {}, 'missed'), this.#missed, make('dt', {}, 'silent for'), this.#silence)
    element.append(this.#counter, numbers, this.#state, this.#tape.element)
    this.#reader = new StreamReader(url, {
      onState: (state, status) => this.#showState(state, status),
      onBlock: (text, fields) => this.#take(text, fields),
      onEnd: (kind, tail) => this.#end(kind, tail),
    })
    this.#again.addEventListener('click', () => this.open())
    setInterval(() => this.#showSilence(), 100)
  }

  get isLive(): boolean {
    return this.#readerState === 'live'
  }

  get n(): number {
    return this.#n
  }

  open(): void {
    this.#lastEventAt = performance.now()
    this.#reader.open()
  }

  close(): void {
    this.#reader.close()
  }

  /** Waits until events come, opening the stream where the client has given it up. */
  async whenLive(): Promise<void> {
    if (this.#readerState === 'given-up' || this.#readerState === 'closed') this.open()
    const before = this.#n
    while (!this.isLive || this.#n === before) await new Promise((resolve) => setTimeout(resolve, 50))
  }

  /** Begins a record, which fills until `stop` gives it back. */
  record(): { readonly soFar: LaneRecord; stop(): LaneRecord } {
    const record: LaneRecord = {
      events: 0,
      missed: 0,
      repeated: 0,
      comments: 0,
      silenceMs: 0,
      endings: [],
      retryMs: undefined,
      gaveUp: undefined,
    }
    this.#records.add(record)
    return {
      soFar: record,
      stop: () => {
        this.#records.delete(record)
        record.silenceMs = Math.max(record.silenceMs, performance.now() - this.#lastEventAt)
        return record
      },
    }
  }

  takeLongestSilence(): number {
    const longest = Math.max(this.#silenceMs, performance.now() - this.#lastEventAt)
    this.#silenceMs = 0
    return longest
  }

  #note(change: (record: LaneRecord) => void): void {
    for (const record of this.#records) change(record)
  }

  #take(text: string, fields: ReadonlyMap<string, string>): void {
    const data = fields.get('data')
    if (data !== undefined) this.#takeEvent(JSON.parse(data).n)
    else if (text.startsWith(':')) {
      this.#tape.comment(text)
      this.#note((record) => {
        record.comments += 1
      })
    } else if (fields.has('retry')) {
      this.#tape.raw(text)
      this.#note((record) => {
        record.retryMs = Number(fields.get('retry'))
      })
    }
  }

  #takeEvent(n: number): void {
    const now = performance.now()
    const silenceMs = now - this.#lastEventAt
    const missed = this.#n === 0 ? 0 : Math.max(0, n - this.#n - 1)
    const repeated = n <= this.#n ? 1 : 0
    this.#lastEventAt = now
    this.#silenceMs = Math.max(this.#silenceMs, silenceMs)
    this.#missedTotal += missed
    this.#n = n
    this.#note((record) => {
      record.events += 1
      record.missed += missed
      record.repeated += repeated
      record.silenceMs = Math.max(record.silenceMs, silenceMs)
    })
    this.#tape.event(String(n))
    this.#counter.textContent = n.toLocaleString('en')
    this.#missed.textContent = String(this.#missedTotal)
  }

  #end(kind: 'complete' | 'broken', tail: string): void {
    if (tail) this.#tape.raw(tail)
    this.#tape.mark(kind === 'broken' ? 'broken off' : tail ? 'ended, as if complete' : 'ended')
    this.#note((record) => record.endings.push({ kind, tail }))
  }

  #showState(state: ReaderState, status: number): void {
    this.#readerState = state
    this.#state.classList.toggle('live', state === 'live')
    this.#stateText.textContent = state === 'given-up' ? `given up: status ${status}` : stateTexts[state]
    this.#again.hidden = state !== 'given-up'
    if (state === 'given-up') {
      this.#tape.mark(`status ${status}: an EventSource gives up for good`)
      this.#note((record) => {
        record.gaveUp = status
      })
    }
  }

  #showSilence(): void {
    const ms = performance.now() - this.#lastEventAt
    this.#silence.textContent = `${(ms / 1000).toFixed(1)} s`
    this.#counter.classList.toggle('still', ms > 1000)
  }
}
