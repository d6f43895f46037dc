// What a shared stream keeps for clients that come late or come back: its last events, and where in them a client
// stands. Publisher and followers reach it through the interface alone, so that the events may be kept elsewhere.

import { type Block, blocksFrom, copyTo, lengthOf } from './blocks.ts'
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

const NOTHING = Buffer.alloc(0)
// A page above this size is used again.
const LARGE_PAGE_BYTES = 4096

/** The memory of what is kept of one read. */
interface Page {
  memory: Buffer
  /** What of that no entry takes. */
  spareBytes: number
  /** How many entries are kept of it. */
  entries: number
  /** Whether somebody has got a part of it, who may not be done with that. */
  isShared: boolean
}

interface KeptEntry extends Pick<LogEntry, 'id' | 'isEvent'> {
  readonly page: Page
  /** Where in the page it lies; set when the page has its memory. */
  start: number
  readonly length: number
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
  // The memory of a page whose entries have been dropped, for the next one.
  #spare: Buffer | undefined

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
    const page = { memory: NOTHING, spareBytes: 0, entries: entries.length, isShared: false }
    const blocks = blocksFrom(entries)
    for (const { id, isEvent, length } of blocks) {
      if (id !== undefined) this.#positions.set(id, this.end)
      const entry = { page, start: 0, length, id, isEvent, at: now }
      this.#entries.push(entry)
      this.#count(entry, 1)
    }
    this.trim(now)
    // What is not kept is not copied.
    if (page.entries > 0) this.#fill(page, page.entries < blocks.length ? blocks.slice(-page.entries) : blocks)
  }

  #fill(page: Page, blocks: readonly Block[]): void {
    const length = lengthOf(blocks)
    page.memory = this.#memoryOf(length)
    page.spareBytes = page.memory.length - length
    this.#add(page.spareBytes)
    copyTo(page.memory, blocks)
    let start = 0
    for (let i = this.#entries.length - page.entries; i < this.#entries.length; i++) {
      const entry = this.#entries[i]
      if (!entry) continue
      entry.start = start
      start += entry.length
    }
  }

  /** Copies what is left of the oldest page, where that is little: all of the page is kept with it otherwise. */
  #packOldest(): void {
    const page = this.#oldest?.page
    if (!page) return
    const left = this.#entries.slice(this.#head, this.#head + page.entries)
    const length = lengthOf(left)
    if (length > page.memory.length / 2) return
    const memory = Buffer.allocUnsafe(length)
    let to = 0
    for (const entry of left) {
      page.memory.copy(memory, to, entry.start, entry.start + entry.length)
      entry.start = to
      to += entry.length
    }
    this.#add(-page.spareBytes)
    Object.assign(page, { memory, spareBytes: 0, isShared: false })
  }

  #memoryOf(length: number): Buffer {
    const spare = this.#spare
    if (!spare || spare.length < length || spare.length > 2 * length) return Buffer.allocUnsafe(length)
    this.#keepSpare(undefined)
    return spare
  }

  /** What is kept for the next page counts as well. */
  #keepSpare(memory: Buffer | undefined): void {
    this.#add((memory?.length ?? 0) - (this.#spare?.length ?? 0))
    this.#spare = memory
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
    return this.#entriesSince(position).map(({ page, start, length, id, isEvent }) => {
      page.isShared = true
      return { bytes: page.memory.subarray(start, start + length), id, isEvent }
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
      const { page } = oldest
      const isFree = page.entries === 0 && !page.isShared
      if (isFree && page.memory.length > LARGE_PAGE_BYTES) this.#keepSpare(page.memory)
    }
  }

  cut(): void {
    this.trimTo(0)
    this.#idBeforeIsExact = false
  }

  trimTo(memoryBytes: number): void {
    this.#keepSpare(undefined)
    this.#dropTo(memoryBytes)
    this.#packOldest()
  }

  #dropTo(memoryBytes: number): void {
    for (let oldest = this.#oldest; oldest && this.memoryBytes > memoryBytes; oldest = this.#oldest) this.#drop(oldest)
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
    entry.page.entries--
    if (entry.page.entries === 0) this.#add(-entry.page.spareBytes)
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
