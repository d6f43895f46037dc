// Reads the log of a key for the clients of one node: entry by entry, in order, whichever node has written it. It delivers each
// event once, also where a new owner sends again what these clients have, and tells where some may be missing.

import type { Position, StoredEntry } from '../../share-store.ts'
import { bytesOf, isKept } from '../blocks.ts'
import type { LogEntry } from '../event-log.ts'
import { isAfter, isNext, samePosition } from '../position.ts'
import { Ahead } from './ahead.ts'
import { type Entry, type Outcome, type RunHead, readable } from './entries.ts'
import { type KeptBounds, KeptLog } from './kept-log.ts'

/** The clients of this node. None of it throws. */
export interface ReaderSink {
  /** Whether there are clients that have been let in. */
  readonly isLive: boolean
  /** A run begins: nothing that was delivered before belongs to it. */
  begin(): void
  /**
   * For the clients, and for those that come later.
   * @param isOfLog whether they were found there, rather than brought by an upstream of this node
   */
  deliver(blocks: readonly LogEntry[], isOfLog: boolean): void
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
  /** Where it begins to read; undefined for the first entry. */
  from: Position | undefined
  /** The upstream's id after all that has been delivered. */
  cursor = ''
  /** Of the run: its head once it has been opened, and how it is over, or was left. */
  head: RunHead | undefined
  isReopenable: boolean
  outcome: Outcome | 'handed-over' | undefined
  /** The fence that it began with, which tells it from others; undefined where that is not known. */
  began: number | undefined
  /** Whether anything of it has been delivered. */
  hasDelivered = false
  /** When its owner came, as long as it has not said more than its head. */
  wordlessSince: number | undefined
  /** The latest entry that says under which head the stream is. */
  openedAt: Position | undefined
  readonly kept: KeptLog
  readonly #sink: ReaderSink
  readonly #now: () => number
  readonly #ahead: Ahead
  // Where each of the latest owners was read last.
  #lastOfFences: Position[] = []
  // Whether events may be missing before those that come next.
  #mayMiss = false
  // Set while the log brings something else than what the clients have got last: where in it they are is not known yet.
  #isSearching = false
  // Set while nothing has shown that the run in the log is the one that the clients have got a part of.
  #isApart = false
  // The same before it was taken what they have got.
  #wasApart = false
  // Set while what the log brings may begin with what the clients have got last, or behind that: they are not searched for.
  #comesAfter = false

  constructor(sink: ReaderSink, options: ReaderOptions, now: () => number) {
    this.#sink = sink
    this.#ahead = new Ahead(options.bufferBytes)
    this.#now = now
    this.isReopenable = options.isReopenable
    this.kept = new KeptLog(options.bounds, options.bufferBytes)
  }

  get bytes(): number {
    return this.kept.rememberedBytes + this.#ahead.bytes
  }

  /** Whether it has still to find where in the log the clients are; nothing of it is delivered meanwhile. */
  get isSearching(): boolean {
    return this.#isSearching
  }

  /** Whether the run in the log may be another one than that of the clients, who were served without the store. */
  get isApart(): boolean {
    return this.#isApart
  }

  /** Whether the run is over, so that nothing more comes of it. */
  get isRunOver(): boolean {
    return this.outcome !== undefined && this.outcome !== 'handed-over'
  }

  /**
   * Reads an entry; one that has been read is nothing new.
   * @param page those that are there to be read with it, where some before it are missing
   */
  read({ position, bytes }: StoredEntry, page: readonly StoredEntry[] = []): void {
    if (this.at && !isAfter(position, this.at)) return
    const isFresh = this.at === undefined
    const entry = readable(bytes)
    const isMissing = this.at !== undefined && position.seq > 0 && !isNext(position, this.at)
    if (!entry || isMissing) this.#mayMiss = true
    // Where its owner goes on has been dropped by now: that may have begun with what clients have got.
    if (isMissing && this.openedAt?.fence !== position.fence) {
      this.#loseTrack()
      // What has been added again may begin before that, and bring it later.
      if (page.some((each) => this.#bringsLast(each))) this.#comesAfter = false
    }
    this.#moveTo(position)
    // Of a run that is over for the clients here nothing more is of interest, above all not the next run.
    if (!entry || (this.isRunOver && this.#sink.isLive && !this.#isApart)) return
    if (entry.kind !== 'head') this.wordlessSince = undefined
    switch (entry.kind) {
      case 'head':
        return this.#onHead(entry, position, isFresh)
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
   * This node has written it, and no other node can have written anything since.
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

  /**
   * This node has begun a run with this head. Clients that it has served without the store go on with what they have got:
   * the run before was not theirs.
   */
  beganRun(head: Position, isReopenable: boolean): void {
    this.#moveTo(head)
    this.isReopenable = isReopenable
    this.wordlessSince = this.#now()
    if (!this.#sink.isLive) return this.#begin(head.fence)
    this.began = head.fence
    this.outcome = undefined
    this.#forgetLog()
    this.#isSearching = this.#isApart = this.#comesAfter = this.#mayMiss = false
  }

  /** Delivers what the log does not have: the store is away. */
  deliverAhead(blocks: readonly LogEntry[], cursor: string): void {
    if (this.#mayMiss) {
      this.#tellGap()
      this.#ahead.hasHole = true
    }
    this.#deliver(blocks, cursor)
    this.#ahead.push(blocks)
  }

  /** What the clients have got is nowhere to be found: they go on with what comes next in the log and is not that. */
  giveUp(): void {
    this.#isSearching = false
    this.#comesAfter = this.#ahead.hasHole = true
  }

  /** The run is over, and what the clients have got was not found in it. */
  endSearch(): void {
    if (this.#isApart && (this.#mayMiss || this.#isSearching)) this.#tellGap()
  }

  /** What comes next may not follow what the clients have got. */
  miss(): void {
    this.#mayMiss = true
  }

  /** The store has lost the latest owners with all that they have added: an earlier one goes on behind this position. */
  goBack(last: Position): void {
    const hasRun = this.began === undefined || this.began <= last.fence
    if (!hasRun && !(this.#sink.isLive && this.isReopenable)) return this.#loseRun(last)
    const read = this.#readUntil(last)
    this.lost(last)
    if (!read) this.#mayMiss = true
    const at = read ?? last
    this.#lastOfFences = this.#lastOfFences.filter(({ fence }) => fence < at.fence)
    this.#moveTo(at)
    if (this.openedAt && isAfter(this.openedAt, at)) this.openedAt = undefined
  }

  /** The store has lost the run as a whole, and has an earlier one. */
  #loseRun(last: Position): void {
    if (!this.#sink.isLive) return this.restart()
    this.#lastOfFences = []
    this.#moveTo(last)
    this.outcome = 'lost'
  }

  /** Where no client has been let in: nothing has been read. */
  restart(): void {
    this.at = undefined
    this.#lastOfFences = []
    this.#begin(undefined)
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
    if (!this.#ahead.hasHole) this.#ahead.unshift(lost.flatMap(({ blocks }) => blocks ?? []))
    if (missing || hasMore) this.#ahead.hasHole = true
    // What follows goes on after the oldest that is remembered.
    this.content = missing ?? before
  }

  /** What the clients have got that is not in the log: its new owner adds it. */
  takeAhead(): { blocks: LogEntry[]; hasHole: boolean; mayMiss: boolean } {
    // Where they have not been found in the log it is not known what they follow.
    const hasHole = this.#ahead.hasHole || this.#isSearching
    const taken = { blocks: this.#ahead.take(), hasHole, mayMiss: this.#mayMiss }
    this.#wasApart = this.#isApart
    this.#foundOut()
    return taken
  }

  /** They could not be added. */
  putBack(blocks: readonly LogEntry[], hasHole: boolean = this.#ahead.hasHole): void {
    this.#isApart = this.#wasApart
    this.#ahead.hasHole = hasHole
    this.#ahead.unshift(blocks)
  }

  #moveTo(position: Position): void {
    if (this.at?.fence === position.fence) this.#lastOfFences.pop()
    this.#lastOfFences.push(position)
    if (this.#lastOfFences.length > REMEMBERED_FENCES) this.#lastOfFences.shift()
    this.at = position
  }

  #onHead(head: Extract<Entry, { kind: 'head' }>, position: Position, isFresh: boolean): void {
    const { run, began, isReopenable } = head
    this.wordlessSince = this.#now()
    // Where the run was over its outcome is said again.
    if (run === 'same' && !this.isRunOver) this.outcome = undefined
    if (run === 'same' && began !== undefined) this.#meetRun(began, isReopenable)
    if (run === 'same') return
    if (this.#sink.isLive) {
      if (run === 'new' && this.isReopenable && isReopenable) return this.#joinNewRun(position.fence, isFresh)
      return this.#end(run === 'new' ? 'lost' : run === 'stop' ? 'stopped' : 'replaced')
    }
    this.#begin(position.fence)
    this.isReopenable = isReopenable
    this.outcome = run === 'stop' ? 'stopped' : undefined
  }

  /** What goes on may be another run, where the store has lost the beginning of that or of this one. */
  #meetRun(began: number, isReopenable: boolean): void {
    const isSame = this.began === undefined || this.began === began
    if (isSame) {
      this.began = began
    } else if (!this.#sink.isLive) {
      this.#begin(began)
      this.isReopenable = isReopenable
      this.#mayMiss = true
    } else if (this.isReopenable && isReopenable) {
      const isOlder = this.began !== undefined && began < this.began
      this.#joinNewRun(began, false)
      if (isOlder) this.#comesAfter = false
    } else {
      this.#end('lost')
    }
  }

  /** Nothing of what was read before is of the same run. */
  #begin(began: number | undefined): void {
    this.began = began
    this.outcome = this.head = undefined
    this.cursor = ''
    this.takeAhead()
    this.hasDelivered = false
    this.#forgetLog()
    this.#sink.begin()
  }

  /**
   * Others have begun a run since the store has lost the log, or was away, and clients here go on with it. Where they were
   * served without the store they are looked for in it; else it comes after all that they have.
   */
  #joinNewRun(began: number, isFresh: boolean): void {
    if (!isFresh) this.#loseTrack()
    this.#isApart = !this.#ahead.isEmpty
    this.began = began
    this.outcome = undefined
    this.#forgetLog()
  }

  /** Whether it has what the clients have got last. */
  #bringsLast({ bytes }: StoredEntry): boolean {
    const id = this.#ahead.last?.id
    const entry = id === undefined ? undefined : readable(bytes)
    return entry?.kind === 'events' && entry.blocks.some((block) => block.id === id)
  }

  /** What comes is compared with what clients have got, as far as it is remembered, and does not come before that. */
  #loseTrack(): void {
    this.#mayMiss = true
    if (!this.#ahead.isEmpty) return
    this.lost(undefined)
    this.#comesAfter = true
  }

  #forgetLog(): void {
    this.content = this.openedAt = undefined
    this.kept.clear()
  }

  #onOpened(opened: Extract<Entry, { kind: 'opened' }>, position: Position, isFresh: boolean): void {
    const { head, follows, hasGap, isReopenable, began } = opened
    if (began !== undefined) this.#meetRun(began, isReopenable)
    if (this.isRunOver) return
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
    // Its events may begin before those that the clients have got, which are searched for in them. Who comes later gets all
    // that there is.
    this.#comesAfter = !this.#sink.isLive
    if (!isFresh) this.lost(undefined)
    this.#mayMiss = true
  }

  /** Delivers what is new of it. */
  #pass({ blocks, cursor }: Extract<Entry, { kind: 'events' }>): void {
    const ahead = this.#ahead
    if (ahead.isEmpty && !this.#mayMiss) return this.#deliver(blocks, cursor, true)
    const known = ahead.meet(blocks)
    if (known > 0) this.#foundOut()
    const news = blocks.slice(known)
    if (!ahead.isEmpty && !news.some(isKept)) return
    if (ahead.last?.id !== undefined && !this.#comesAfter) {
      this.#isSearching = true
      return
    }
    if (!ahead.isEmpty || this.#mayMiss) this.#tellGap()
    this.#deliver(news, cursor, true)
  }

  /** It is known where the clients are. */
  #foundOut(): void {
    this.#isSearching = this.#isApart = this.#comesAfter = this.#mayMiss = this.#ahead.hasHole = false
  }

  #tellGap(): void {
    this.takeAhead()
    if (this.at) this.kept.cut(this.at)
    this.#sink.gap()
  }

  #end(outcome: Outcome | 'handed-over'): void {
    const isMissing = this.#mayMiss || this.#isSearching
    if (isMissing && outcome !== 'handed-over' && !this.#isApart) this.#tellGap()
    this.outcome = outcome
  }

  #deliver(blocks: readonly LogEntry[], cursor: string, isOfLog = false): void {
    this.cursor = cursor
    if (blocks.length === 0) return
    this.hasDelivered = true
    this.#sink.deliver(blocks, isOfLog)
  }

  #keep({ blocks }: Extract<Entry, { kind: 'events' }>, position: Position): void {
    this.content = position
    const kept = blocks.filter(isKept)
    const events = blocks.filter(({ isEvent }) => isEvent).length
    this.kept.add({ position, events, bytes: bytesOf(blocks), blocks: kept })
    // What is passed over in search of the clients they have not got: it is not to be added again as theirs.
    if (this.#isSearching) this.kept.cut(position)
  }
}
