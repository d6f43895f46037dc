// What a shared stream keeps for clients that come late or come back: its last events, and where in them a client
// stands. Publisher and followers reach it through the interface alone, so that the events may be kept elsewhere.

import { blocksFrom } from './blocks.ts'
import { LogPages, Page, type Place } from './log-pages.ts'
import type { MemoryUser, ReplayBudget } from './replay-budget.ts'

/** A block of the stream: an event, or an id without data. */
export interface LogEntry {
  readonly bytes: Buffer
  /** The id that it sets; undefined where it sets none. */
  readonly id: string | undefined
  /** Whether it dispatches an event. */
  readonly isEvent: boolean
}

/** The latest entries of one stream. Positions count all entries there ever were, so that they outlive what is dropped. */
export interface EventLog {
  /** The position of the next entry to come. */
  readonly end: number
  /** The position of the oldest entry kept. */
  readonly first: number
  /** The id of a client that has seen everything before `first`. */
  readonly idBefore: string
  /** Adds what one read of the upstream brought, and drops what is beyond the bounds then. */
  append(entries: readonly LogEntry[], now: number): void
  /** Where a client goes on that has seen everything up to this id; undefined where that is not known (any more). */
  positionAfter(id: string): number | undefined
  /** The position at which the last so many events begin, and the current value where there is one. */
  beforeLast(events: number): number
  /** What comes from now on is the current value: it is kept whatever its age, until another one takes its place. */
  beginValue(): void
  /** The entries from this position on, as far as they are kept. */
  since(position: number): readonly LogEntry[]
  /** How many of those are events. */
  eventsSince(position: number): number
  /** Drops what has become too old. */
  trim(now: number): void
  /** Drops all: what comes from now on does not follow it. */
  cut(): void
  /** Gives up all that is kept: the stream is over. */
  close(): void
}

/** How much a log keeps. */
export interface LogBounds {
  readonly events: number
  readonly bytes: number
  readonly ageMs: number
}

// What an entry takes in memory beside its bytes and its id.
const ENTRY_BYTES = 256
// What a block without data counts in the app's own bound (`bytes`) beside its bytes: an upstream that sends nothing but
// ids would fill the memory otherwise, since such blocks do not count as events.
const BLOCK_BYTES = 128
// Dropped entries leave the array together once there are more of them than this, and than of those kept.
const DROPPED_ENTRIES = 64

interface KeptEntry extends Place, Pick<LogEntry, 'id' | 'isEvent'> {
  readonly at: number
}

/** The log of this process's memory, which keeps copies: what they were read into may be read into again. */
export class MemoryEventLog implements EventLog, MemoryUser {
  /** What the log takes in memory, which the budget of all logs counts. */
  memoryBytes = 0
  readonly #bounds: LogBounds
  readonly #budget: Pick<ReplayBudget, 'add' | 'enter' | 'leave'>
  #entries: KeptEntry[] = []
  // The index of the oldest entry kept. Those before it are dropped, and leave the array later, together.
  #head = 0
  // The position of the oldest entry kept.
  #first = 0
  // Bytes and events of the entries kept, for the bounds.
  #bytes = 0
  #events = 0
  // The last id set by what has been dropped; at the start the id that the upstream was asked to go on from.
  #idBefore: string
  // False when entries without an id were dropped after the one that set `#idBefore`: a client with that id has not seen
  // them, and going on at `#first` would lose them in silence.
  #idBeforeIsExact = true
  // The position at which the current value begins. Its entries are dropped for memory that others need, and for nothing else.
  #valueAt = Number.POSITIVE_INFINITY
  // The position at which each id kept was set last.
  readonly #positions = new Map<string, number>()
  readonly #pages = new LogPages((bytes) => this.#add(bytes))

  constructor(bounds: LogBounds, idBefore: string, budget: Pick<ReplayBudget, 'add' | 'enter' | 'leave'>) {
    this.#bounds = bounds
    this.#idBefore = idBefore
    this.#budget = budget
    budget.enter(this)
  }

  get end(): number {
    return this.#first + this.#entries.length - this.#head
  }

  get first(): number {
    return this.#first
  }

  get idBefore(): string {
    return this.#idBefore
  }

  append(entries: readonly LogEntry[], now: number): void {
    const page = new Page(entries.length)
    const blocks = blocksFrom(entries)
    for (const { id, isEvent, length } of blocks) {
      if (id !== undefined) this.#positions.set(id, this.end)
      const entry = { page, start: 0, length, id, isEvent, at: now }
      this.#entries.push(entry)
      this.#count(entry, 1)
    }
    this.trim(now)
    // What is not kept is not copied.
    const kept = page.entries
    if (kept > 0)
      this.#pages.fill(page, kept < blocks.length ? blocks.slice(-kept) : blocks, this.#entries.slice(-kept))
  }

  positionAfter(id: string): number | undefined {
    const position = this.#positions.get(id)
    if (position !== undefined) return position + 1
    return id === this.#idBefore && this.#idBeforeIsExact ? this.#first : undefined
  }

  beforeLast(events: number): number {
    let index = this.#entries.length
    for (let left = events; left > 0 && index > this.#head; index--) {
      if (this.#entries[index - 1]?.isEvent) left--
    }
    return Math.min(this.#first + index - this.#head, Math.max(this.#valueAt, this.#first))
  }

  beginValue(): void {
    this.#valueAt = this.end
  }

  since(position: number): readonly LogEntry[] {
    return this.#entriesSince(position).map((entry) => {
      const { page, id, isEvent } = entry
      return { bytes: page.give(entry), id, isEvent }
    })
  }

  #entriesSince(position: number): readonly KeptEntry[] {
    return this.#entries.slice(this.#head + Math.max(position - this.#first, 0))
  }

  eventsSince(position: number): number {
    return this.#entriesSince(position).filter(({ isEvent }) => isEvent).length
  }

  trim(now: number): void {
    const { events, bytes, ageMs } = this.#bounds
    for (let oldest = this.#oldest; oldest; oldest = this.#oldest) {
      if (this.#first >= this.#valueAt) break
      if (this.#events <= events && this.#bytes <= bytes && now - oldest.at <= ageMs) break
      this.#drop(oldest)
      this.#pages.reuse(oldest.page)
    }
  }

  cut(): void {
    this.trimTo(0)
    this.#idBeforeIsExact = false
  }

  trimTo(memoryBytes: number): void {
    this.#pages.clear()
    for (let oldest = this.#oldest; oldest && this.memoryBytes > memoryBytes; oldest = this.#oldest) this.#drop(oldest)
    const page = this.#oldest?.page
    if (page) this.#pages.pack(page, this.#entries.slice(this.#head, this.#head + page.entries))
  }

  close(): void {
    this.trimTo(0)
    this.#budget.leave(this)
  }

  get #oldest(): KeptEntry | undefined {
    return this.#entries[this.#head]
  }

  #drop(entry: KeptEntry): void {
    const { id } = entry
    this.#pages.drop(entry.page)
    if (id !== undefined) {
      if (this.#positions.get(id) === this.#first) this.#positions.delete(id)
      this.#idBefore = id
    }
    this.#idBeforeIsExact = id !== undefined
    this.#count(entry, -1)
    this.#head++
    this.#first++
    if (this.#head <= DROPPED_ENTRIES || this.#head * 2 <= this.#entries.length) return
    this.#entries = this.#entries.slice(this.#head)
    this.#head = 0
  }

  /** Adds an entry to the sums, or takes it out. */
  #count({ length, id = '', isEvent }: KeptEntry, sign: 1 | -1): void {
    this.#bytes += sign * (isEvent ? length : length + BLOCK_BYTES)
    if (isEvent) this.#events += sign
    this.#add(sign * (length + id.length + ENTRY_BYTES))
  }

  #add(memoryBytes: number): void {
    this.memoryBytes += memoryBytes
    this.#budget.add(memoryBytes)
  }
}
