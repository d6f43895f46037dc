// Reads the log of a key for the clients of one node: entry by entry, in order, whoever has written it. It delivers each
// event once, also where a new owner sends again what these clients have, and tells where some may be missing.

import type { Position, StoredEntry } from '../../share-store.ts'
import { isKept } from '../blocks.ts'
import type { LogEntry } from '../event-log.ts'
import { isAfter, isNext, samePosition } from '../position.ts'
import { decodeEntry, type Entry, type Outcome, type RunHead } from './entries.ts'
import { type KeptBounds, KeptLog } from './kept-log.ts'

/** The clients of this node. None of it throws. */
export interface ReaderSink {
  /** Whether there are clients that have been let in. */
  readonly isLive: boolean
  /** A run begins: nothing that was delivered before belongs to it. */
  begin(): void
  /** For the clients, and for those that come later. */
  deliver(blocks: readonly LogEntry[]): void
  /** Events are missing between what has been delivered and what comes. */
  gap(): void
}

export interface ReaderOptions {
  /** How much the log keeps. */
  readonly bounds: KeptBounds
  /** How much is remembered of what has been delivered. */
  readonly bufferBytes: number
  /** Whether another node may ask the upstream again for a run that this one has begun. */
  readonly isReopenable: boolean
}

// A store that comes back without its latest is not further back than so many owners.
const REMEMBERED_FENCES = 8

export class LogReader {
  /** The latest entry that has been read, and the latest one with events. */
  at: Position | undefined
  content: Position | undefined
  /** The upstream's id after all that has been delivered. */
  cursor = ''
  /** Of the run: its head once it has been opened, and how it is over, or was left. */
  head: RunHead | undefined
  isReopenable: boolean
  outcome: Outcome | 'handed-over' | undefined
  /** Whether anything of it has been delivered. */
  hasDelivered = false
  /** When its owner came, as long as it has not said more than its head. */
  wordlessSince: number | undefined
  /** The latest entry that says under which head the stream is. */
  openedAt: Position | undefined
  readonly kept: KeptLog
  readonly #sink: ReaderSink
  readonly #now: () => number
  readonly #bufferBytes: number
  // What the clients have got that is not in the log, as far as it has been read; the latest of it, within bounds, and
  // whether more has been given up before it.
  #ahead: LogEntry[] = []
  #aheadBytes = 0
  #hasHole = false
  // Where each of the latest owners was read last.
  #lastOfFences: Position[] = []
  // Whether events may be missing before those that come next.
  #mayMiss = false
  // Set while the log brings something else than what the clients have got last: where in it they are is not known yet.
  #isSearching = false

  constructor(sink: ReaderSink, options: ReaderOptions, now: () => number) {
    this.#sink = sink
    this.#bufferBytes = options.bufferBytes
    this.#now = now
    this.isReopenable = options.isReopenable
    this.kept = new KeptLog(options.bounds, options.bufferBytes)
  }

  get bytes(): number {
    return this.kept.rememberedBytes + this.#aheadBytes
  }

  /** Whether it has still to find where in the log the clients are; nothing of it is delivered meanwhile. */
  get isSearching(): boolean {
    return this.#isSearching
  }

  /** Whether the run is over, so that nothing more comes of it. */
  get isRunOver(): boolean {
    return this.outcome !== undefined && this.outcome !== 'handed-over'
  }

  /** Reads an entry; one that has been read is nothing new. */
  read({ position, bytes }: StoredEntry): void {
    if (this.at && !isAfter(position, this.at)) return
    const isFresh = this.at === undefined
    const entry = readable(bytes)
    if (!entry || (this.at && position.seq > 0 && !isNext(position, this.at))) this.#mayMiss = true
    this.#moveTo(position)
    // Of a run that is over for the clients here nothing more is of interest, above all not the next run.
    if (!entry || (this.isRunOver && this.#sink.isLive)) return
    if (entry.kind !== 'head') this.wordlessSince = undefined
    switch (entry.kind) {
      case 'head':
        return this.#onHead(entry)
      case 'opened':
        return this.#onOpened(entry, position, isFresh)
      case 'gap':
        this.#mayMiss = true
        return
      case 'events':
        this.#pass(entry)
        return this.#keep(entry, position)
      case 'outcome':
        this.#end(entry.outcome)
    }
  }

  /**
   * This node has written it, and nobody else can have written anything since.
   * @param isDelivered whether the clients have got its events before
   */
  wrote(position: Position, entry: Entry, isDelivered: boolean): void {
    this.#moveTo(position)
    this.wordlessSince = undefined
    if (entry.kind === 'opened') {
      this.openedAt = position
      this.head = entry.head
    } else if (entry.kind === 'gap') {
      this.#tellGap()
    } else if (entry.kind === 'outcome') {
      this.#end(entry.outcome)
    } else if (entry.kind === 'events') {
      this.#keep(entry, position)
      if (!isDelivered) this.#deliver(entry.blocks, entry.cursor)
    }
  }

  /** Delivers what the log does not have: the store is away. */
  deliverAhead(blocks: readonly LogEntry[], cursor: string): void {
    if (this.#mayMiss) {
      this.#tellGap()
      this.#hasHole = true
    }
    this.#deliver(blocks, cursor)
    for (const block of blocks) if (isKept(block)) this.#push(block)
    while (this.#aheadBytes > this.#bufferBytes && this.#ahead.length > 1) this.#forget()
  }

  /** What the clients have got is nowhere to be found: they go on with what comes next in the log. */
  giveUp(): void {
    this.#isSearching = false
    this.#mayMiss = true
    this.#ahead = []
    this.#aheadBytes = 0
  }

  /** What comes next may not follow what the clients have got. */
  miss(): void {
    this.#mayMiss = true
  }

  /** The store has lost the latest owners with all that they have added: an earlier one goes on behind this position. */
  goBack(last: Position): void {
    const read = this.#readUntil(last)
    this.lost(last)
    if (!read) this.#mayMiss = true
    const at = read ?? last
    this.#lastOfFences = this.#lastOfFences.filter(({ fence }) => fence < at.fence)
    this.#moveTo(at)
    if (this.openedAt && isAfter(this.openedAt, at)) this.openedAt = undefined
  }

  /** The latest entry up to this position that has been read; undefined where none is known. */
  #readUntil(last: Position): Position | undefined {
    const latest = this.#lastOfFences.findLast(({ fence }) => fence <= last.fence)
    return latest && isAfter(latest, last) ? last : latest
  }

  /** The log has lost what is behind this position (undefined: all): the clients have got it, as far as it is remembered. */
  lost(position: Position | undefined): void {
    const { lost, before } = this.kept.takeAfter(position)
    if (lost.length === 0) return
    const missing = lost.findLast(({ blocks }) => !blocks)?.position
    // What is too long ago to be kept has been lost as well.
    const hasMore = before !== undefined && (!position || isAfter(before, position))
    if (!this.#hasHole) this.putBack(lost.flatMap(({ blocks }) => blocks ?? []))
    if (missing || hasMore) this.#hasHole = true
    // What follows goes on after the oldest that is remembered.
    this.content = missing ?? before
  }

  /** What the clients have got that is not in the log: its new owner adds it. */
  takeAhead(): { blocks: LogEntry[]; hasHole: boolean; mayMiss: boolean } {
    const taken = { blocks: this.#ahead, hasHole: this.#hasHole, mayMiss: this.#mayMiss }
    this.#ahead = []
    this.#aheadBytes = 0
    this.#hasHole = false
    this.#mayMiss = false
    this.#isSearching = false
    return taken
  }

  /** They could not be added. */
  putBack(blocks: readonly LogEntry[], hasHole: boolean = this.#hasHole): void {
    this.#hasHole = hasHole
    const ahead = [...blocks, ...this.#ahead]
    this.#ahead = []
    this.#aheadBytes = 0
    for (const block of ahead) this.#push(block)
  }

  #moveTo(position: Position): void {
    if (this.at?.fence === position.fence) this.#lastOfFences.pop()
    this.#lastOfFences.push(position)
    if (this.#lastOfFences.length > REMEMBERED_FENCES) this.#lastOfFences.shift()
    this.at = position
  }

  #onHead({ run, isReopenable }: Extract<Entry, { kind: 'head' }>): void {
    this.wordlessSince = this.#now()
    // Where the run was over its outcome is said again.
    if (run === 'same' && !this.isRunOver) this.outcome = undefined
    if (run === 'same') return
    if (this.#sink.isLive) return this.#end(run === 'stop' ? 'stopped' : 'replaced')
    this.isReopenable = isReopenable
    this.outcome = run === 'stop' ? 'stopped' : undefined
    this.head = this.content = this.openedAt = undefined
    this.cursor = ''
    this.takeAhead()
    this.hasDelivered = false
    this.kept.clear()
    this.#sink.begin()
  }

  #onOpened(opened: Extract<Entry, { kind: 'opened' }>, position: Position, isFresh: boolean): void {
    const { head, follows, hasGap, isReopenable } = opened
    const isFirst = this.head === undefined
    this.head = head
    this.isReopenable = isReopenable
    this.openedAt = position
    if (isFirst && this.cursor === '') this.cursor = head.idBefore
    const { content } = this
    // Who begins to read in the middle of a log goes on from there.
    if (isFresh) this.content = follows
    else if (follows && (!content || isAfter(follows, content))) this.#mayMiss = true
    else if (content && (!follows || !samePosition(follows, content))) this.lost(follows)
    if (!hasGap) return
    // Its events may begin before those that the clients have got.
    if (!isFresh) this.lost(undefined)
    this.#mayMiss = true
  }

  /** Delivers what is new of it. */
  #pass({ blocks, cursor }: Extract<Entry, { kind: 'events' }>): void {
    if (this.#ahead.length === 0 && !this.#mayMiss) return this.#deliver(blocks, cursor)
    const news = blocks.slice(this.#known(blocks))
    if (this.#ahead.length > 0 && !news.some(isKept)) return
    if (this.#ahead.at(-1)?.id !== undefined) {
      this.#isSearching = true
      return
    }
    if (this.#ahead.length > 0 || this.#mayMiss) this.#tellGap()
    this.#deliver(news, cursor)
  }

  /** How many of the blocks are none that the clients have still to get. */
  #known(blocks: readonly LogEntry[]): number {
    let known = 0
    for (const [i, block] of blocks.entries()) {
      const [next] = this.#ahead
      if (!next || !isKept(block)) continue
      const index = isSame(next, block) ? 0 : this.#ahead.findIndex(({ id }) => id !== undefined && id === block.id)
      if (index === -1) continue
      for (const { bytes } of this.#ahead.splice(0, index + 1)) this.#aheadBytes -= bytes.length
      known = i + 1
    }
    if (known === 0) return 0
    // From here on it is known where they are.
    this.#isSearching = this.#hasHole = this.#mayMiss = false
    return known
  }

  #tellGap(): void {
    this.takeAhead()
    if (this.at) this.kept.cut(this.at)
    this.#sink.gap()
  }

  #end(outcome: Outcome | 'handed-over'): void {
    if (this.#mayMiss && outcome !== 'handed-over') this.#tellGap()
    this.outcome = outcome
  }

  #deliver(blocks: readonly LogEntry[], cursor: string): void {
    this.cursor = cursor
    if (blocks.length === 0) return
    this.hasDelivered = true
    this.#sink.deliver(blocks)
  }

  #keep({ blocks }: Extract<Entry, { kind: 'events' }>, position: Position): void {
    this.content = position
    const kept = blocks.filter(isKept)
    const events = blocks.filter(({ isEvent }) => isEvent).length
    this.kept.add({ position, events, bytes: bytesOf(blocks), blocks: kept })
  }

  #push(block: LogEntry): void {
    this.#ahead.push(block)
    this.#aheadBytes += block.bytes.length
  }

  #forget(): void {
    const block = this.#ahead.shift()
    if (!block) return
    this.#aheadBytes -= block.bytes.length
    this.#hasHole = true
  }
}

/** Undefined where no node has written it: what it should have said is missing. */
function readable(bytes: Buffer): Entry | undefined {
  try {
    return decodeEntry(bytes)
  } catch {
    return undefined
  }
}

export function bytesOf(blocks: readonly LogEntry[]): number {
  return blocks.reduce((sum, { bytes }) => sum + bytes.length, 0)
}

function isSame(one: LogEntry, other: LogEntry): boolean {
  return one.id !== undefined && other.id !== undefined ? one.id === other.id : one.bytes.equals(other.bytes)
}
