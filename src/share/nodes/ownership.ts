// A key that this node owns, for as long as its fence is the latest: what was in the log before is read to its end, then what
// the upstream brings is added, and delivered when it is in the log. What clients have got that is not in the log, since the
// store was away or has lost it, is added first.

import type { Position, StoredEntry } from '../../share-store.ts'
import { bytesOf } from '../blocks.ts'
import { isAfter, samePosition } from '../position.ts'
import { catchUp } from './catch-up.ts'
import { type Entry, encodeEntry, type Outcome, type RunHead } from './entries.ts'
import type { KeptBounds } from './kept-log.ts'
import type { StoreNode } from './node.ts'
import type { Batch, OwnUpstream } from './own-upstream.ts'
import type { LogReader } from './reader.ts'
import type { Steps } from './steps.ts'

export interface OwnershipOptions {
  readonly key: string
  /** How much the log keeps. */
  readonly bounds: KeptBounds
  /** For how long an ended run can be joined. */
  readonly keepEndedMs: number
  /** For how long a run goes on that no node follows. */
  readonly lingerMs: number
}

/** What a member and its ownership of the key have in common. */
export interface OwnerContext {
  readonly node: StoreNode
  readonly options: OwnershipOptions
  readonly reader: LogReader
  readonly upstream: OwnUpstream
  readonly steps: Steps
  /** Whether this node has clients for it. */
  isWanted: boolean
  /** Whether the node stops, so that nothing lingers. */
  isLeaving: boolean
  /** How the run is to end here, once all before it is in the log, whatever the upstream brings. */
  ending: Outcome | 'handed-over' | undefined
  /** The clients may be let in. */
  letIn(head: RunHead): void
}

/** What has come of a step: it goes on, the key is this node's no more, or the run is over. */
export type Owned = 'owning' | 'superseded' | Outcome | 'handed-over'

/** An entry that is being added. */
interface Sending extends StoredEntry {
  readonly entry: Entry
  /** Whether the clients have got it before the log did. */
  readonly isDelivered: boolean
}

// A key that all nodes have left without a word is dropped after so long.
export const KEEP_MS = 3_600_000
// One addition has about so much at most.
const ADDITION_BYTES = 262_144

// All that there is of a log is behind it.
const NOTHING_BEFORE: Position = { fence: 0, seq: 0 }

export class Ownership {
  readonly #context: OwnerContext
  readonly #fence: number
  // Whether this node may ask an upstream where it has none.
  readonly #mayAsk: boolean
  // Whether all that others have added before is read. Unset by whatever may mean that the key has another owner.
  #hasTail = false
  // Set after an addition whose outcome is unknown: the position of the latest entry if it was made.
  #unsure: Position | undefined
  #sending: Sending[] = []
  // When something was added last, which keeps the log.
  #addedAt: number
  // Since when no node follows, and whether that has to be asked for again.
  #emptySince: number | undefined
  #asksWhoFollows = true
  // Why this owner is to be the last, or to be followed by another one.
  #reason: Outcome | 'handed-over' | undefined

  /** @param mayAsk whether this node may ask an upstream for the run: others may have, for what cannot be asked for again */
  constructor(context: OwnerContext, fence: number, mayAsk: boolean) {
    this.#context = context
    this.#fence = fence
    this.#mayAsk = mayAsk
    this.#addedAt = context.node.now()
  }

  /** What is being added. */
  get bytes(): number {
    return this.#sending.reduce((sum, { bytes }) => sum + bytes.length, 0)
  }

  /** Whether nothing is to be read before something can be added. */
  get hasTail(): boolean {
    return this.#hasTail && !this.#unsure
  }

  get isAdding(): boolean {
    return this.#sending.length > 0
  }

  /** Whether the key is still this node's, and who follows it, is to be seen. */
  doubt(): void {
    this.#hasTail = false
    this.#asksWhoFollows = true
  }

  /** Others have added up to this position. */
  noteLatest({ fence }: Position): void {
    if (fence > this.#fence) this.#hasTail = false
  }

  /** This node has clients from now on, or has none any more: a run without followers lingers anew after them. */
  noteClients(): void {
    if (this.#context.isWanted) this.#emptySince = undefined
    this.#asksWhoFollows = true
  }

  askWhoFollows(): void {
    this.#asksWhoFollows = true
  }

  /** Nothing old can follow its head by now: what is there is what it goes on after. */
  async readTail(): Promise<Owned> {
    const { node, options, reader, upstream } = this.#context
    const state = await catchUp(node, options.key, reader)
    const isOwn = state?.last.fence === this.#fence && reader.at !== undefined && samePosition(state.last, reader.at)
    // An addition that may still come is kept out by a new fence, since its positions would get other bytes.
    const isSure = !this.#unsure || (state && samePosition(state.last, this.#unsure))
    if (!isOwn || !isSure) return this.#supersede()
    this.#unsure = undefined
    if (reader.outcome !== undefined && this.#hasSaid) {
      // All of it was in one addition whose answer was lost.
      if (reader.head) this.#context.letIn(reader.head)
      return reader.outcome
    }
    this.#hasTail = true
    if (reader.isRunOver) {
      // It was over before it was taken: that is said again, since the head has come behind it.
      this.#reason = reader.outcome
      upstream.close()
    }
    reader.outcome = undefined
    return 'owning'
  }

  /** Opens the upstream where there is none, and adds what it has brought. */
  async write(): Promise<Owned> {
    const context = this.#context
    if (context.isLeaving) this.#reason ??= context.reader.isReopenable ? 'handed-over' : 'lost'
    if (context.upstream.state === 'none' && !this.#ending) this.#open()
    if (!this.isAdding) this.#compose()
    if (this.isAdding) return await this.#add()
    if (!context.isWanted && !this.#ending) await this.#linger()
    return 'owning'
  }

  /** What was being added waits again, or is what the clients have before the log. */
  withdraw(): void {
    const { reader, upstream } = this.#context
    const sending = this.#sending
    this.#sending = []
    const batches: Batch[] = []
    for (const { entry, isDelivered } of sending) {
      if (entry.kind === 'gap') reader.miss()
      if (entry.kind === 'opened' && entry.hasGap) reader.putBack([], true)
      if (entry.kind !== 'events') continue
      if (isDelivered) reader.putBack(entry.blocks)
      else batches.push({ blocks: [...entry.blocks], bytes: bytesOf(entry.blocks), cursor: entry.cursor })
    }
    upstream.putBack(batches)
  }

  /** Whether the log says under which head it goes on. */
  get #hasSaid(): boolean {
    return this.#context.reader.openedAt?.fence === this.#fence
  }

  get #ending(): Outcome | 'handed-over' | undefined {
    return this.#context.ending ?? this.#context.upstream.outcome ?? this.#reason
  }

  #open(): void {
    const { reader, upstream } = this.#context
    const isSent = !reader.isReopenable && (reader.head !== undefined || upstream.hasAsked)
    if (!this.#mayAsk || isSent) this.#reason = 'lost'
    else upstream.open(reader.cursor, reader.hasDelivered)
  }

  /** Gives what is to be added its positions. */
  #compose(): void {
    const { node, reader, upstream, steps } = this.#context
    const ending = this.#ending
    if (upstream.state === 'opening' && !ending) return this.#keepLeadership()
    const head = upstream.head ?? reader.head
    const hasSaid = this.#hasSaid
    const { cursor, content, isReopenable, began } = reader
    const ahead = hasSaid || head ? reader.takeAhead() : undefined
    if (head && (!hasSaid || this.#mustSayAgain())) {
      this.#send({ kind: 'opened', head, isReopenable, began, follows: content, hasGap: ahead?.hasHole === true })
    }
    if (ahead && ahead.blocks.length > 0) this.#send({ kind: 'events', blocks: ahead.blocks, cursor }, true)
    if (head && (ahead?.mayMiss || upstream.isBlind)) this.#send({ kind: 'gap' })
    for (const batch of head ? upstream.take(ADDITION_BYTES) : []) {
      this.#send({ kind: 'events', blocks: batch.blocks, cursor: batch.cursor })
    }
    if (ending && upstream.bytes === 0) this.#send({ kind: 'outcome', outcome: ending })
    if (this.isAdding) return
    const aliveAt = this.#addedAt + KEEP_MS / 3
    if (node.now() >= aliveAt) this.#send({ kind: 'alive' })
    else steps.wakeAt(aliveAt)
  }

  /** An owner that says nothing after its head is taken for one that does not know that it is one. */
  #keepLeadership(): void {
    const { node, reader, steps } = this.#context
    if (reader.wordlessSince === undefined) return
    const sayAt = reader.wordlessSince + node.store.leaseMs / 2
    if (node.now() >= sayAt) this.#send({ kind: 'alive' })
    else steps.wakeAt(sayAt)
  }

  #send(entry: Entry, isDelivered = false): void {
    const before = this.#sending.at(-1)?.position ?? this.#context.reader.at
    if (!before) return
    const position = { fence: this.#fence, seq: before.seq + 1 }
    this.#sending.push({ position, bytes: encodeEntry(entry), entry, isDelivered })
  }

  /** The head of the stream is said again before it is dropped: who comes later needs it. */
  #mustSayAgain(): boolean {
    const { events, bytes } = this.#context.options.bounds
    const { openedAt, kept } = this.#context.reader
    const half = kept.firstWithin({ events: events / 2, bytes: bytes / 2 })
    return openedAt !== undefined && half !== undefined && isAfter(half, openedAt)
  }

  async #add(): Promise<Owned> {
    const { node, options, reader, upstream, steps } = this.#context
    const { at, openedAt } = reader
    const sending = this.#sending
    const last = sending.at(-1)
    if (!last || !at) return 'owning'
    // Whatever comes of it: what has come meanwhile is next, or how things stand.
    steps.wake()
    const keepMs = last.entry.kind === 'outcome' ? await this.#keepEndedMs(last.entry.outcome) : KEEP_MS
    const first = reader.kept.begin ?? NOTHING_BEFORE
    const keepFrom = openedAt && isAfter(first, openedAt) ? openedAt : first
    this.#unsure = last.position
    const addition = { after: at, entries: sending, keepFrom, keepMs }
    const added = await node.call(node.store.append(options.key, addition)).catch((error) => {
      // Where it is in the log all the same it is read there.
      this.withdraw()
      throw error
    })
    if (added.isRefused) return this.#supersede()
    this.#unsure = undefined
    this.#sending = []
    this.#addedAt = node.now()
    for (const { position, entry, isDelivered } of sending) reader.wrote(position, entry, isDelivered)
    upstream.regulate()
    if (this.#hasSaid) upstream.isBlind = false
    if (reader.head) this.#context.letIn(reader.head)
    return reader.outcome ?? 'owning'
  }

  /** What is not kept for those who come later goes at once, unless a node has still to read it. */
  async #keepEndedMs(outcome: Outcome | 'handed-over'): Promise<number> {
    const { keepEndedMs, lingerMs } = this.#context.options
    const hasOthers = await this.#hasOthers()
    if (outcome === 'handed-over' && hasOthers) return KEEP_MS
    if (outcome === 'handed-over') return this.#context.isLeaving ? lingerMs : 0
    const graceMs = hasOthers ? 2 * this.#context.node.store.checkMs : 0
    return Math.max(outcome === 'ended' || outcome === 'lost' ? keepEndedMs : 0, graceMs)
  }

  /** No client here: the run goes on for as long as another node follows, and for `lingerMs` after that. */
  async #linger(): Promise<void> {
    const { node, reader, steps } = this.#context
    if (this.#asksWhoFollows || node.now() >= this.#lingersUntil) {
      this.#asksWhoFollows = false
      const hasOthers = await this.#hasOthers().catch((error) => {
        this.#asksWhoFollows = true
        throw error
      })
      if (hasOthers) this.#emptySince = undefined
      else this.#emptySince ??= node.now()
      if (this.#context.isWanted) return
    }
    if (node.now() < this.#lingersUntil) return steps.wakeAt(this.#lingersUntil)
    // A node that follows it all the same, since it was not heard of, goes on with it.
    this.#reason ??= reader.isReopenable ? 'handed-over' : 'left'
    steps.wake()
  }

  get #lingersUntil(): number {
    return (this.#emptySince ?? Number.POSITIVE_INFINITY) + this.#context.options.lingerMs
  }

  async #hasOthers(): Promise<boolean> {
    const { node, options } = this.#context
    const followers = await node.call(node.store.followers(options.key))
    return followers.some((name) => name !== node.name)
  }

  /** Another node has the key, the log is gone, or it is not known which. */
  #supersede(): 'superseded' {
    this.withdraw()
    return 'superseded'
  }
}
