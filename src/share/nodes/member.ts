// One node's part in one key: it follows the log that another node writes, or owns the key and writes it, or, while the
// store is away, goes alone. What it promises: clients of this node get each event once and in order as far as the
// upstream has ids, what cannot be had is told, and a node that has been replaced appends nothing.
//
// States, and what leads from one to another:
//
//   seeking    reads the log to its end. An owner that is alive -> following. No log, or its run is over -> takes the key
//              for a new run (owning). An owner that is dead, has handed over, is an earlier self, or has not said a word
//              after its head for as long as a lease -> takes the key for the same run (owning).
//   following  delivers what the log brings. The owner is gone -> seeking. The outcome -> over. No client -> over.
//              The store is away -> alone.
//   owning     has the fence, reads the tail, opens the upstream behind it, appends what that brings and delivers it then.
//              An addition that was refused, or of which nobody knows -> seeking, the upstream kept. The upstream's end,
//              or no node follows -> appends the outcome -> over. The store is away -> alone.
//   alone      has an upstream of its own, delivers what that brings, and remembers it within bounds. The store is back
//              -> owning where its fence still holds, seeking otherwise.
//   over       nothing more comes.
//
// Clients may have more than the log: what was delivered alone, or what the store has lost. The next owner adds it where
// it is this node; where it is another one, its events are compared with it (see `LogReader`).
//
// A member works towards what should be from what is (`#step`): a call that is lost, late or doubled leads to another
// look, never to a state of its own. One call is under way at a time.

import type { Doorbell, KeyState, Position, StoredEntry } from '../../share-store.ts'
import type { LogEntry } from '../event-log.ts'
import { isAfter, isNext, samePosition } from '../position.ts'
import { type Entry, encodeEntry, type LocalOutcome, type Outcome, type RunHead } from './entries.ts'
import type { StoreNode } from './node.ts'
import { bytesOf, LogReader } from './reader.ts'

/** The stream of this node: its upstream, where it has one, and its clients. None of it throws. */
export interface LocalStream {
  /** Asks the upstream for what comes after this id; `opened` or `upstreamOver` of the member answers, later. */
  open(cursor: string): void
  /** Gives the upstream up; nothing of it comes any more. */
  close(): void
  /** Backpressure of what waits to be appended. */
  pause(): void
  unpause(): void
  /** A run begins: nothing that was delivered before belongs to it. */
  begin(): void
  /** All that is kept of the run has been delivered: clients may be let in, under this head. */
  ready(head: RunHead): void
  /** For the clients, and for those that come later. */
  deliver(blocks: readonly LogEntry[]): void
  /** Events are missing between what has been delivered and what comes. */
  gap(): void
  /** The last call. */
  over(outcome: LocalOutcome): void
}

/** What a member is to do. */
export interface MemberOptions {
  readonly key: string
  /** Whether it may begin a run where there is none. */
  readonly mayOpen: boolean
  /** Whether it joins a run that has ended and is kept, rather than to begin another one. */
  readonly joinsEnded: boolean
  /** What becomes of it where a run is under way when it comes. */
  readonly busy: 'join' | 'refuse' | 'replace'
  /** Whether another node may ask the upstream again for a run that this one has begun. */
  readonly isReopenable: boolean
  /** How much the log keeps. */
  readonly bounds: { readonly events: number; readonly bytes: number }
  /** How much may wait to be appended, and how much is remembered of what has been delivered. */
  readonly bufferBytes: number
  /** For how long an ended run can be joined. */
  readonly keepEndedMs: number
  /** For how long a run goes on that no node follows. */
  readonly lingerMs: number
}

// One read of the log brings so much at most.
const PAGE_BYTES = 1_048_576
// One addition has about so much at most.
const ADDITION_BYTES = 262_144
// What comes while an addition is under way is put together, up to this size.
const BATCH_BYTES = 16_384
// A key that all nodes have left without a word is dropped after so long.
const KEEP_MS = 3_600_000
// After a call that failed, until it is tried again.
const RETRY_MS = 200
// So many failures in a row, with a store that is there, and the key is let alone for a lease.
const MAX_FAILURES = 5

// All that there is of a log is behind it.
const NOTHING_BEFORE: Position = { fence: 0, seq: 0 }

/** What one read of the upstream brought, and the upstream's id after it. */
interface Batch {
  readonly blocks: LogEntry[]
  bytes: number
  cursor: string
}

/** An entry that is being added. */
interface Sending extends StoredEntry {
  readonly entry: Entry
  /** Whether the clients have got it before the log did. */
  readonly isDelivered: boolean
}

export class Member implements Doorbell {
  readonly #node: StoreNode
  readonly #options: MemberOptions
  readonly #local: LocalStream
  readonly #reader: LogReader
  #role: 'seeking' | 'following' | 'owning' | 'alone' | 'over' = 'seeking'
  // Whether it has yet to see that there is a run.
  #isNew = true
  // Whether this node has clients for it, and whether they have been let in.
  #isWanted = true
  #isReady = false
  // The node that has the key, as the store said last.
  #owner: string | undefined
  // The fence of this node; 0 for none. With it: whether it has read what was there before, and whether its upstream
  // could not be asked to go on.
  #fence = 0
  #hasTail = false
  // When it has added something last, which keeps the log.
  #addedAt = 0
  #isBlind = false
  // After an addition of which nobody knows whether it was made: what the latest entry is if it was.
  #unsure: Position | undefined
  #upstream: 'none' | 'opening' | 'open' | 'over' = 'none'
  #opened: RunHead | undefined
  #isPaused = false
  // From the upstream, neither in the log nor delivered; within bounds by backpressure.
  #queue: Batch[] = []
  #queueBytes = 0
  #sending: Sending[] = []
  // How the run is to end here, once all before it is in the log; and whether the clients have been told already.
  #ending: Outcome | 'handed-over' | undefined
  #isTold = false
  // Whether the node stops, so that nothing lingers.
  #isLeaving = false
  // Since when no node follows, and whether that has to be asked for again.
  #emptySince: number | undefined
  #asksWhoFollows = true
  // Until when clients wait for the store, where no upstream is to be opened without it.
  #awayUntil: number | undefined
  // Until when it looks for what its clients have got in the log.
  #searchUntil: number | undefined
  // When this node takes a key that has lost its owner: all that follow have noticed at the same time.
  #contendAt: number | undefined
  #unfollow: (() => void) | undefined
  // While the log is read for what may be of this node, and in the queue.
  #isReading = false
  #isRunning = false
  #isDirty = false
  // What the doorbell has told meanwhile.
  #held: StoredEntry[] = []
  #heldBytes = 0
  // Steps that have failed, one after the other, and until when the key is not tried again for that reason.
  #failures = 0
  #aloneUntil = Number.NEGATIVE_INFINITY
  #cancelTimer: (() => void) | undefined
  #timerAt = Number.POSITIVE_INFINITY

  constructor(node: StoreNode, options: MemberOptions, local: LocalStream) {
    this.#node = node
    this.#options = options
    this.#local = local
    const member = this
    const sink = {
      get isLive() {
        return member.#isReady
      },
      begin: () => this.#isTold || local.begin(),
      deliver: (blocks: readonly LogEntry[]) => this.#deliver(blocks),
      gap: () => this.#isTold || local.gap(),
    }
    this.#reader = new LogReader(sink, options, node.now)
    node.add(this)
    this.wake()
  }

  get key(): string {
    return this.#options.key
  }

  get isOver(): boolean {
    return this.#role === 'over'
  }

  /** Whether it writes the log, for all that it knows. */
  get isOwner(): boolean {
    return this.#fence > 0
  }

  /** The node that it depends on. */
  get owner(): string | undefined {
    return this.#fence === 0 ? this.#owner : undefined
  }

  /** What it holds beside what is delivered. */
  get bytes(): number {
    return this.#queueBytes + this.#reader.bytes + this.#sending.reduce((sum, { bytes }) => sum + bytes.length, 0)
  }

  // What happens to it.

  /** The last client of this node has left, or one has come back. */
  want(isWanted: boolean): void {
    if (isWanted === this.#isWanted) return
    this.#isWanted = isWanted
    this.#asksWhoFollows = true
    if (isWanted) this.#emptySince = undefined
    this.wake()
  }

  /** The run is to be over for all nodes, as the app wants it. */
  end(outcome: Outcome): void {
    this.#ending ??= outcome
    this.wake()
  }

  /** This node stops: another one that follows goes on. */
  handOver(): void {
    this.#isWanted = false
    this.#isLeaving = true
    this.wake()
  }

  /** The upstream has answered with a stream. */
  opened(head: RunHead): void {
    if (this.#upstream !== 'opening') return
    this.#upstream = 'open'
    this.#opened = head
    this.wake()
  }

  /** What the upstream brought, and its id after that. */
  received(blocks: readonly LogEntry[], cursor: string): void {
    if (this.#upstream !== 'open') return
    if (this.#role === 'alone') return this.#reader.deliverAhead(blocks, cursor)
    const bytes = bytesOf(blocks)
    const last = this.#queue.at(-1)
    if (last && last.bytes + bytes <= BATCH_BYTES) {
      last.blocks.push(...blocks)
      last.bytes += bytes
      last.cursor = cursor
    } else {
      this.#queue.push({ blocks: [...blocks], bytes, cursor })
    }
    this.#queueBytes += bytes
    this.#regulate()
    this.wake()
  }

  /** The upstream has ended, or there is none. */
  upstreamOver(outcome: Outcome): void {
    if (this.#upstream !== 'opening' && this.#upstream !== 'open') return
    this.#upstream = 'over'
    this.#ending ??= outcome
    this.wake()
  }

  onEntries(entries: readonly StoredEntry[]): void {
    const { at } = this.#reader
    const news = at ? entries.filter(({ position }) => isAfter(position, at)) : entries
    const last = news.at(-1)
    if (!last) return
    this.#node.noteHeard()
    // What comes while the log is read may follow what that brings: to read again and again would never catch up.
    if (this.#isRunning && this.#fence === 0 && this.#hold(news)) return
    // What follows directly is taken as it comes; anything else is read from the log.
    if (this.#role === 'following' && !this.#isRunning && at && areNext(news, at)) {
      for (const entry of news) this.#reader.read(entry)
      if (this.#reader.outcome === undefined && !this.#reader.isSearching && this.#isReady) return
    }
    if (this.#fence > 0 && last.position.fence > this.#fence) this.#hasTail = false
    this.wake()
  }

  /** False where it is too much: it is read from the log. */
  #hold(entries: readonly StoredEntry[]): boolean {
    this.#held.push(...entries)
    this.#heldBytes += entries.reduce((sum, { bytes }) => sum + bytes.length, 0)
    if (this.#heldBytes <= PAGE_BYTES) return true
    this.#takeHeld()
    return false
  }

  #takeHeld(): readonly StoredEntry[] {
    const held = this.#held
    this.#held = []
    this.#heldBytes = 0
    return held
  }

  onChanged(): void {
    // Whether the key is still this node's, and who follows it, is to be seen.
    this.#hasTail = false
    this.#asksWhoFollows = true
    this.wake()
  }

  /** How the key stands, as a check of all keys has found it; returns whether that is news. */
  check(state: KeyState | undefined): boolean {
    const { at } = this.#reader
    const isNews = !this.#isRunning && this.#sending.length === 0 && !(state && at && samePosition(state.last, at))
    if (isNews) this.onChanged()
    else if (this.#fence > 0 && !this.#isWanted) {
      // Who follows is asked for all keys together.
      this.#asksWhoFollows = true
      this.wake()
    }
    return isNews
  }

  /** Something may have changed. */
  wake(): void {
    this.#isDirty = true
    if (!this.#isRunning && !this.isOver) void this.#run()
  }

  async #run(): Promise<void> {
    this.#isRunning = true
    while (this.#isDirty && !this.isOver) {
      this.#isDirty = false
      try {
        await this.#step()
        this.#failures = 0
      } catch (error) {
        this.#onFailure(error)
      }
    }
    this.#isRunning = false
    const held = this.#takeHeld()
    if (!this.isOver) this.onEntries(held)
  }

  /** Whether the store is away shows the node's next beat; a key that cannot be used with the store there goes alone. */
  #onFailure(error: unknown): void {
    const { now, store } = this.#node
    this.#node.suspect(error)
    this.#failures++
    if (this.#failures % MAX_FAILURES === 0) this.#aloneUntil = now() + store.leaseMs
    this.#wakeAt(Math.max(this.#aloneUntil, now() + RETRY_MS))
    if (now() < this.#aloneUntil) this.#isDirty = true
  }

  // What it does.

  async #step(): Promise<void> {
    if (this.#node.isUp === undefined) return
    if (!this.#node.isUp || this.#node.now() < this.#aloneUntil) return this.#goAlone()
    if (this.#node.isWaiting(this)) return
    if (this.#fence > 0) return await this.#own()
    // What cannot be asked for again is read to its end, whoever has the key by now.
    const isDetached = this.#role === 'alone' && !this.#reader.isReopenable && this.#upstream !== 'none'
    if (isDetached) return this.#goAlone()
    await this.#seek()
  }

  /** The store is away. */
  #goAlone(): void {
    this.#searchUntil = undefined
    if (this.#role !== 'alone') {
      this.#role = 'alone'
      this.#contendAt = undefined
      this.#withdraw()
      if (this.#isBlind) this.#reader.miss()
      this.#isBlind = false
    }
    for (const { blocks, cursor } of this.#emptyQueue()) this.#reader.deliverAhead(blocks, cursor)
    const head = this.#reader.head ?? this.#opened
    if (head) this.#letIn(head)
    if (this.#ending || !this.#isWanted) {
      // For the other nodes the outcome is appended when the store is back, if the key is still this one's.
      this.#ending ??= 'left'
      if (this.#fence === 0) return this.#finish(this.#ending)
      this.#closeUpstream()
      return this.#tell(this.#ending)
    }
    if (this.#node.onDown === 'refuse' && this.#upstream === 'none') return this.#awaitStore()
    const isReopenable = this.#reader.isReopenable || (!this.#reader.head && this.#options.mayOpen)
    if (this.#upstream !== 'none' || !isReopenable) return
    this.#openBehind()
    if (this.#isBlind) this.#reader.miss()
    this.#isBlind = false
  }

  async #follow(): Promise<() => void> {
    const { store, name } = this.#node
    const following = store.follow(this.#options.key, name, this)
    try {
      return await this.#node.call(following)
    } catch (error) {
      // It may come about later, when nobody waits for it.
      following.then(
        (unfollow) => unfollow(),
        () => {},
      )
      throw error
    }
  }

  /** Clients wait for so long, and are told then that their stream is lost. */
  #awaitStore(): void {
    const { now, store } = this.#node
    this.#awayUntil ??= now() + 2 * store.leaseMs
    if (now() >= this.#awayUntil) this.#finish('lost')
    else this.#wakeAt(this.#awayUntil)
  }

  /** Not the owner: reads the log to its end, and sees whether it has one. */
  async #seek(): Promise<void> {
    const { name } = this.#node
    const { mayOpen, joinsEnded, busy } = this.#options
    this.#awayUntil = undefined
    this.#unfollow ??= await this.#follow()
    const state = await this.#catchUp()
    const isSearching = this.#isSearching()
    // The log of another owner has all that an upstream of its own would bring.
    if (state && state.owner !== name) {
      if (isSearching && this.#upstream !== 'none') return
      this.#closeUpstream()
    }
    this.#role = 'seeking'
    const { head, outcome, isRunOver } = this.#reader
    if (this.#upstream === 'none' && (!this.#isWanted || this.#ending) && state?.owner !== name) {
      return this.#finish(this.#ending ?? 'left')
    }
    if (isRunOver && outcome !== undefined && outcome !== 'handed-over') {
      const joins =
        this.#isReady || !this.#isWanted || !mayOpen || (joinsEnded && outcome === 'ended' && head !== undefined)
      if (!joins) return await this.#take(state, 'new')
      if (head) this.#letIn(head)
      return this.#finish(outcome)
    }
    if (!state && !mayOpen && !head) return this.#finish('none')
    if (state && this.#isNew && busy !== 'join') {
      this.#isNew = false
      return busy === 'refuse' ? this.#finish('busy') : await this.#take(state, 'new')
    }
    this.#isNew = false
    const isLeft =
      !state ||
      state.owner === name ||
      outcome === 'handed-over' ||
      this.#isWordless() ||
      (await this.#node.isDead(state.owner))
    if (!isLeft) {
      this.#contendAt = undefined
      this.#role = 'following'
      if (head) this.#letIn(head)
    } else if (this.#isItsTurn(state)) {
      await this.#take(state, state || head || this.#upstream !== 'none' ? 'same' : 'new')
    }
  }

  /** Whether the log has still to bring what the clients have got; an upstream of their own goes on until then. */
  #isSearching(): boolean {
    const { now, store } = this.#node
    if (!this.#reader.isSearching) this.#searchUntil = undefined
    if (!this.#reader.isSearching) return false
    // An owner that has died meanwhile has a successor by then.
    this.#searchUntil ??= now() + 3 * store.leaseMs
    this.#wakeAt(this.#searchUntil)
    if (now() < this.#searchUntil) return true
    this.#searchUntil = undefined
    this.#reader.giveUp()
    return false
  }

  /** Reads what the log has behind `at`. */
  async #catchUp(): Promise<KeyState | undefined> {
    for (;;) {
      const { at } = this.#reader
      const { entries, state } = await this.#node.call(this.#node.store.read(this.#options.key, at, PAGE_BYTES))
      this.#isReading = true
      for (const entry of entries) this.#reader.read(entry)
      this.#isReading = false
      this.#owner = state?.owner
      const isBack = state !== undefined && at !== undefined && state.last.fence < at.fence
      const isAtEnd = state !== undefined && samePosition(entries.at(-1)?.position ?? NOTHING_BEFORE, state.last)
      if (isBack) this.#reader.goBack(state.last)
      else if (entries.length === 0 || isAtEnd) return state
    }
  }

  /** Whether an owner has said nothing but its head for so long that it may not know of it. */
  #isWordless(): boolean {
    const { wordlessSince } = this.#reader
    if (wordlessSince === undefined) return false
    const until = wordlessSince + this.#node.store.leaseMs
    if (this.#node.now() >= until) return true
    this.#wakeAt(until)
    return false
  }

  #isItsTurn(state: KeyState | undefined): boolean {
    const { store, now, chance, name } = this.#node
    const isFirst = state ? state.owner === name : this.#upstream !== 'none' || !this.#reader.head
    // Where the log is gone its owner notices as well, and has an upstream to go on with.
    const mostMs = store.leaseMs / (state ? 20 : 5)
    const waitMs = isFirst || this.#reader.outcome === 'handed-over' ? 0 : mostMs * (0.5 + chance() / 2)
    this.#contendAt ??= now() + waitMs
    if (now() >= this.#contendAt) return true
    this.#wakeAt(this.#contendAt)
    return false
  }

  async #take(state: KeyState | undefined, run: 'new' | 'same'): Promise<void> {
    const { store, name } = this.#node
    const reader = this.#reader
    this.#contendAt = undefined
    const isReopenable = run === 'new' ? this.#options.isReopenable : reader.isReopenable
    const head = encodeEntry({ kind: 'head', node: name, run, isReopenable })
    const claim = { node: name, replaces: state?.last.fence ?? 0, head, keepMs: KEEP_MS }
    const added = await this.#node.call(store.take(this.#options.key, claim))
    this.#isDirty = true
    if (added.isRefused) return
    this.#node.noteTaken(run === 'same' && reader.head !== undefined)
    this.#fence = added.fence
    this.#addedAt = this.#node.now()
    this.#role = 'owning'
    this.#hasTail = false
    this.#emptySince = undefined
    // What has been read and is not there any more has been lost by the store.
    const { content } = reader
    if (content && (!state || isAfter(content, state.last))) reader.lost(state?.last)
  }

  async #own(): Promise<void> {
    if (this.#role === 'alone' || this.#unsure || !this.#hasTail) {
      if (!(await this.#readTail())) return
    }
    this.#role = 'owning'
    if (this.#isLeaving) this.#ending ??= this.#reader.isReopenable ? 'handed-over' : 'lost'
    if (this.#upstream === 'none' && !this.#ending) this.#open()
    if (this.#sending.length === 0) this.#compose()
    if (this.#sending.length > 0) return await this.#add()
    if (!this.#isWanted && !this.#ending) await this.#linger()
  }

  /** Nothing old can follow its head by now: what is there is what it goes on after. False where the key is its own no more. */
  async #readTail(): Promise<boolean> {
    const reader = this.#reader
    const state = await this.#catchUp()
    const isOwn = state?.last.fence === this.#fence && reader.at !== undefined && samePosition(state.last, reader.at)
    // An addition that may still come is kept out by a new fence, since its positions would get other bytes.
    const isSure = !this.#unsure || (state && samePosition(state.last, this.#unsure))
    this.#unsure = undefined
    if (!isOwn || !isSure) {
      this.#loseFence()
      return false
    }
    if (reader.outcome !== undefined && reader.openedAt?.fence === this.#fence) {
      this.#finish(reader.outcome === 'handed-over' ? 'left' : reader.outcome)
      return false
    }
    this.#hasTail = true
    if (reader.isRunOver && reader.outcome !== 'handed-over') {
      // It was over before it was taken: that is said again, since the head has come behind it.
      this.#ending ??= reader.outcome
      this.#closeUpstream()
    }
    reader.outcome = undefined
    return true
  }

  #open(): void {
    const { isReopenable, head } = this.#reader
    if (!isReopenable && head) this.#ending = 'lost'
    else this.#openBehind()
  }

  /** Asks the upstream to go on after what the clients have got, if it can be told what that is. */
  #openBehind(): void {
    const { cursor, hasDelivered } = this.#reader
    if (cursor === '' && hasDelivered) this.#isBlind = true
    this.#upstream = 'opening'
    this.#local.open(cursor)
  }

  /** Gives what waits its positions. */
  #compose(): void {
    const reader = this.#reader
    if (!reader.at) return
    let { seq } = reader.at
    const send = (entry: Entry, isDelivered = false): void => {
      seq++
      this.#sending.push({ position: { fence: this.#fence, seq }, bytes: encodeEntry(entry), entry, isDelivered })
    }
    const head = this.#opened ?? reader.head
    const hasSaid = reader.openedAt?.fence === this.#fence
    if (this.#upstream === 'opening' && !this.#ending) {
      const { wordlessSince } = reader
      const sayAt = (wordlessSince ?? Number.POSITIVE_INFINITY) + this.#node.store.leaseMs / 2
      if (this.#node.now() >= sayAt) send({ kind: 'alive' })
      else if (wordlessSince !== undefined) this.#wakeAt(sayAt)
      return
    }
    const { cursor, content, isReopenable } = reader
    const ahead = hasSaid || head ? reader.takeAhead() : undefined
    if (head && (!hasSaid || this.#mustSayAgain())) {
      send({ kind: 'opened', head, isReopenable, follows: content, hasGap: ahead?.hasHole === true })
    }
    if (ahead && ahead.blocks.length > 0) send({ kind: 'events', blocks: ahead.blocks, cursor }, true)
    if (head && (ahead?.mayMiss || (this.#isBlind && !hasSaid))) send({ kind: 'gap' })
    for (let bytes = 0; head && bytes < ADDITION_BYTES; ) {
      const batch = this.#queue.shift()
      if (!batch) break
      bytes += batch.bytes
      this.#queueBytes -= batch.bytes
      send({ kind: 'events', blocks: batch.blocks, cursor: batch.cursor })
    }
    if (this.#ending && this.#queue.length === 0) send({ kind: 'outcome', outcome: this.#ending })
    if (this.#sending.length > 0) return
    const aliveAt = this.#addedAt + KEEP_MS / 3
    if (this.#node.now() >= aliveAt) send({ kind: 'alive' })
    else this.#wakeAt(aliveAt)
  }

  /** The head of the stream is said again before it is dropped: who comes later needs it. */
  #mustSayAgain(): boolean {
    const { openedAt, kept } = this.#reader
    const { events, bytes } = this.#options.bounds
    const half = kept.firstWithin({ events: events / 2, bytes: bytes / 2 })
    return openedAt !== undefined && half !== undefined && isAfter(half, openedAt)
  }

  async #add(): Promise<void> {
    const { store } = this.#node
    const { kept, at, openedAt } = this.#reader
    const sending = this.#sending
    const last = sending.at(-1)
    if (!last || !at) return
    this.#isDirty = true
    const keepMs = last.entry.kind === 'outcome' ? await this.#keepEndedMs(last.entry.outcome) : KEEP_MS
    const first = kept.begin ?? NOTHING_BEFORE
    const keepFrom = openedAt && isAfter(first, openedAt) ? openedAt : first
    this.#unsure = last.position
    const addition = { after: at, entries: sending, keepFrom, keepMs }
    const added = await this.#node.call(store.append(this.#options.key, addition)).catch((error) => {
      // Where it is in the log all the same it is read there.
      this.#withdraw()
      throw error
    })
    this.#unsure = undefined
    if (added.isRefused) return this.#loseFence()
    // The store was found to be away meanwhile, and the clients have got it.
    if (this.#sending !== sending) return
    this.#sending = []
    this.#addedAt = this.#node.now()
    for (const { position, entry, isDelivered } of sending) this.#reader.wrote(position, entry, isDelivered)
    this.#regulate()
    const { head, outcome } = this.#reader
    if (this.#reader.openedAt?.fence === this.#fence) this.#isBlind = false
    if (head) this.#letIn(head)
    if (outcome) this.#finish(outcome === 'handed-over' ? 'left' : outcome)
  }

  /** What is not kept for those who come later goes at once, unless a node has still to read it. */
  async #keepEndedMs(outcome: Outcome | 'handed-over'): Promise<number> {
    const { keepEndedMs, lingerMs } = this.#options
    const hasOthers = await this.#hasOthers()
    if (outcome === 'handed-over') return hasOthers ? KEEP_MS : lingerMs
    const graceMs = hasOthers ? 2 * this.#node.store.checkMs : 0
    return Math.max(outcome === 'ended' || outcome === 'lost' ? keepEndedMs : 0, graceMs)
  }

  /** Another node has the key, the log is gone, or nobody knows. */
  #loseFence(): void {
    this.#fence = 0
    this.#hasTail = false
    this.#unsure = undefined
    this.#role = 'seeking'
    this.#withdraw()
    this.#isDirty = true
  }

  /** What was being added waits again, or is what the clients have before the log. */
  #withdraw(): void {
    const sending = this.#sending
    this.#sending = []
    const batches: Batch[] = []
    for (const { entry, isDelivered } of sending) {
      if (entry.kind === 'gap') this.#reader.miss()
      if (entry.kind === 'opened' && entry.hasGap) this.#reader.putBack([], true)
      if (entry.kind !== 'events') continue
      if (isDelivered) this.#reader.putBack(entry.blocks)
      else batches.push({ blocks: [...entry.blocks], bytes: bytesOf(entry.blocks), cursor: entry.cursor })
    }
    this.#queue.unshift(...batches)
    this.#queueBytes += batches.reduce((sum, { bytes }) => sum + bytes, 0)
  }

  #emptyQueue(): Batch[] {
    const queue = this.#queue
    this.#queue = []
    this.#queueBytes = 0
    this.#regulate()
    return queue
  }

  /** No client here: the run goes on for as long as another node follows, and for `lingerMs` after that. */
  async #linger(): Promise<void> {
    const { now } = this.#node
    if (this.#asksWhoFollows || now() >= this.#lingersUntil) {
      this.#asksWhoFollows = false
      const hasOthers = await this.#hasOthers().catch((error) => {
        this.#asksWhoFollows = true
        throw error
      })
      if (hasOthers) this.#emptySince = undefined
      else this.#emptySince ??= now()
      if (this.#isWanted) return
    }
    if (now() < this.#lingersUntil) return this.#wakeAt(this.#lingersUntil)
    this.#ending ??= 'left'
    this.#isDirty = true
  }

  get #lingersUntil(): number {
    return (this.#emptySince ?? Number.POSITIVE_INFINITY) + this.#options.lingerMs
  }

  async #hasOthers(): Promise<boolean> {
    const followers = await this.#node.call(this.#node.store.followers(this.#options.key))
    return followers.some((name) => name !== this.#node.name)
  }

  #letIn(head: RunHead): void {
    if (this.#isReady) return
    this.#isReady = true
    this.#local.ready(head)
  }

  /** What the log brings is not what waits to be added any more. */
  #deliver(blocks: readonly LogEntry[]): void {
    // The log is further than an upstream of its own, which would bring the same again.
    if (this.#isReading && this.#role === 'alone') this.#closeUpstream()
    for (const block of this.#isReading ? blocks : []) {
      const [batch] = this.#queue
      if (!batch?.blocks[0]?.bytes.equals(block.bytes)) break
      batch.blocks.shift()
      batch.bytes -= block.bytes.length
      this.#queueBytes -= block.bytes.length
      if (batch.blocks.length === 0) this.#queue.shift()
    }
    if (!this.#isTold) this.#local.deliver(blocks)
  }

  #regulate(): void {
    const isFull = this.#queueBytes > this.#options.bufferBytes
    if (isFull === this.#isPaused) return
    this.#isPaused = isFull
    if (isFull) this.#local.pause()
    else this.#local.unpause()
  }

  #closeUpstream(): void {
    if (this.#upstream === 'none') return
    if (this.#upstream !== 'over') this.#local.close()
    this.#upstream = 'none'
    this.#opened = undefined
    // Its end was not the run's.
    if (this.#fence === 0) this.#ending = undefined
    this.#emptyQueue()
  }

  #tell(outcome: LocalOutcome | 'handed-over'): void {
    if (this.#isTold) return
    this.#isTold = true
    this.#local.over(outcome === 'handed-over' ? 'left' : outcome)
  }

  #finish(outcome: LocalOutcome | 'handed-over'): void {
    if (this.isOver) return
    this.#role = 'over'
    this.#fence = 0
    this.#closeUpstream()
    this.#unfollow?.()
    this.#unfollow = undefined
    this.#cancelTimer?.()
    this.#node.remove(this)
    this.#tell(outcome)
  }

  #wakeAt(time: number): void {
    if (time >= this.#timerAt) return
    this.#cancelTimer?.()
    this.#timerAt = time
    this.#cancelTimer = this.#node.after(Math.max(time - this.#node.now(), 0), () => {
      this.#timerAt = Number.POSITIVE_INFINITY
      this.wake()
    })
  }
}

/** Whether they follow this position without a hole. */
function areNext(entries: readonly StoredEntry[], at: Position): boolean {
  return entries.every(({ position }, i) => isNext(position, entries[i - 1]?.position ?? at))
}
