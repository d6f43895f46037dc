// One node's part in one key: it follows the log that another node writes, or owns the key and writes it, or, while the
// store is away, goes alone. What it promises: clients of this node get each event once and in order as far as the
// upstream has ids, what cannot be had is told, and a node that has been replaced appends nothing.
//
// States, and what leads from one to another:
//
//   seeking    reads the log to its end. An owner that is alive -> following. No log, or its run is over -> takes the key
//              for a new run (owning). An owner that is dead, has handed over, is an earlier self, or has not said a word
//              after its head for as long as a lease -> takes the key for the same run (owning), or for a new one where it
//              has come with a request that is sent once.
//   following  delivers what the log brings. The owner is gone -> seeking. The outcome -> over. No client -> over.
//              The store is away -> alone.
//   owning     has the fence, reads the tail, opens the upstream behind it, appends what that brings and delivers it then
//              (`Ownership`). An addition that was refused, or whose outcome is unknown -> seeking, the upstream kept. The
//              upstream's end, or no node follows -> appends the outcome -> over. The store is away -> alone.
//   alone      has an upstream of its own, delivers what that brings, and remembers it within bounds. The store is back
//              -> owning where its fence still holds, seeking otherwise: a run that is over in the log by then, and that its
//              clients have nothing of, is not theirs (owning, a new run).
//   over       nothing more comes.
//
// Clients may have more than the log: what was delivered alone, or what the store has lost (`Ahead`). The next owner adds
// it where it is this node; where it is another one, its events are compared with it (`LogReader`).
//
// A member works towards what should be from what is (`#step`): a call that is lost, late or doubled leads to another
// look, never to a state of its own. One call is under way at a time (`Steps`).

import type { Doorbell, KeyState, Position, StoredEntry } from '../../share-store.ts'
import type { LogEntry } from '../event-log.ts'
import { isAfter, isNext, samePosition } from '../position.ts'
import { catchUp, latestRun } from './catch-up.ts'
import { encodeEntry, type HeadRun, type LocalOutcome, type Outcome, type RunHead } from './entries.ts'
import { HeldEntries } from './held-entries.ts'
import type { LocalStream } from './local-stream.ts'
import type { StoreNode } from './node.ts'
import { OwnUpstream } from './own-upstream.ts'
import { OwnerWatch } from './owner-watch.ts'
import { KEEP_MS, type Owned, type OwnerContext, Ownership, type OwnershipOptions } from './ownership.ts'
import { LogReader, type ReaderOptions } from './reader.ts'
import { Steps } from './steps.ts'

/** What a member is to do. */
export interface MemberOptions extends OwnershipOptions, ReaderOptions {
  /** Whether it may begin a run where there is none. */
  readonly mayOpen: boolean
  /** Whether it joins a run that has ended and is kept, rather than to begin another one. */
  readonly joinsEnded: boolean
  /** What becomes of it where a run is under way when it comes. */
  readonly busy: 'join' | 'refuse' | 'replace'
}

export class Member implements Doorbell {
  readonly #node: StoreNode
  readonly #options: MemberOptions
  readonly #local: LocalStream
  readonly #reader: LogReader
  readonly #upstream: OwnUpstream
  readonly #steps: Steps
  readonly #watch: OwnerWatch
  readonly #context: OwnerContext
  #role: 'seeking' | 'following' | 'owning' | 'alone' | 'over' = 'seeking'
  // Whether it has yet to see that there is a run.
  #isNew = true
  // Since when this node has no client for it.
  #unwantedSince = 0
  // Whether the clients have been let in, and whether they have been told how the run is over.
  #isReady = false
  #isTold = false
  // Set from when this node has taken the key until it hears that another one has; while the store is away as well.
  #ownership: Ownership | undefined
  // Whether the latest owner may be this node: then the others wait for its word, whatever becomes of it here.
  #mayBeOwner = false
  // Until when clients wait for the store, where no upstream is to be opened without it.
  #awayUntil: number | undefined
  // Until when it looks for what its clients have got in the log.
  #searchUntil: number | undefined
  #unfollow: (() => void) | undefined
  // What the doorbell has told while a step was under way.
  readonly #held = new HeldEntries()

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
      deliver: (blocks: readonly LogEntry[], isOfLog: boolean) => this.#deliver(blocks, isOfLog),
      gap: () => this.#isTold || local.gap(),
    }
    this.#reader = new LogReader(sink, options, node.now)
    this.#upstream = new OwnUpstream(local, options.bufferBytes)
    const onRest = () => this.onEntries(this.#held.take())
    this.#steps = new Steps(node, () => this.#step(), onRest)
    this.#watch = new OwnerWatch(node, options.key, this.#reader, this.#steps)
    this.#context = {
      ...{ node, options, reader: this.#reader, upstream: this.#upstream, steps: this.#steps },
      ...{ isWanted: true, isLeaving: false, ending: undefined },
      letIn: (head) => this.#letIn(head),
    }
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
    return this.#ownership !== undefined
  }

  /** The node that it depends on. */
  get owner(): string | undefined {
    return this.#ownership ? undefined : this.#watch.owner
  }

  /** What it holds beside what is delivered. */
  get bytes(): number {
    return this.#upstream.bytes + this.#reader.bytes + (this.#ownership?.bytes ?? 0)
  }

  // What happens to it.

  /** The last client of this node has left, or one has come back. */
  want(isWanted: boolean): void {
    if (isWanted === this.#context.isWanted) return
    this.#context.isWanted = isWanted
    this.#unwantedSince = this.#node.now()
    this.#ownership?.noteClients()
    this.wake()
  }

  /** The run is to be over for all nodes, as the app wants it. */
  end(outcome: Outcome): void {
    this.#context.ending ??= outcome
    this.wake()
  }

  /** This node stops: another one that follows goes on. */
  handOver(): void {
    this.#context.isWanted = false
    this.#context.isLeaving = true
    this.wake()
  }

  /** The upstream has answered with a stream. */
  opened(head: RunHead): void {
    if (this.#upstream.state !== 'opening') return
    this.#upstream.state = 'open'
    this.#upstream.head = head
    if (this.#role === 'alone') this.#letInAlone()
    this.wake()
  }

  /** What the upstream brought, and its id after that. */
  received(blocks: readonly LogEntry[], cursor: string): void {
    if (this.#upstream.state !== 'open') return
    if (this.#role === 'alone') return this.#reader.deliverAhead(blocks, cursor)
    this.#upstream.push(blocks, cursor)
    this.wake()
  }

  /** The upstream has ended, or there is none. */
  upstreamOver(outcome: Outcome): void {
    if (this.#upstream.state !== 'opening' && this.#upstream.state !== 'open') return
    this.#upstream.state = 'over'
    this.#upstream.outcome = outcome
    this.wake()
  }

  onEntries(entries: readonly StoredEntry[]): void {
    const { at } = this.#reader
    const news = at ? entries.filter(({ position }) => isAfter(position, at)) : entries
    const last = news.at(-1)
    if (!last) return
    this.#node.noteHeard()
    const { isRunning } = this.#steps
    // What comes while the log is read may follow what that brings: to read again and again would never catch up.
    if (isRunning && !this.#ownership && this.#held.hold(news)) return
    // What follows directly is taken as it comes, also where the log has gone since; anything else is read from there.
    const isReading = this.#role === 'following' || this.#role === 'seeking'
    if (isReading && !isRunning && at && areNext(news, at)) {
      for (const entry of news) this.#reader.read(entry)
      if (this.#reader.outcome === undefined && !this.#reader.isSearching && this.#isReady) return
    }
    this.#ownership?.noteLatest(last.position)
    this.wake()
  }

  onChanged(): void {
    this.#ownership?.doubt()
    this.wake()
  }

  /** How the key stands, as a check of all keys has found it; returns whether that is news. */
  check(state: KeyState | undefined): boolean {
    const { at } = this.#reader
    const isBusy = this.#steps.isRunning || this.#ownership?.isAdding === true
    const isNews = !isBusy && !(state && at && samePosition(state.last, at))
    if (isNews) this.onChanged()
    else if (this.#ownership && !this.#context.isWanted) {
      // Who follows is asked for all keys together.
      this.#ownership.askWhoFollows()
      this.wake()
    } else if (this.#role === 'following') {
      this.#watch.check().catch((error) => this.#node.suspect(error))
    }
    return isNews
  }

  /** Something may have changed. */
  wake(): void {
    this.#steps.wake()
  }

  // What it does.

  async #step(): Promise<void> {
    if (this.#node.isUp === undefined) return
    if (!this.#node.isUp || this.#steps.isFailing) return this.#goAlone()
    if (this.#node.isWaiting(this)) return
    if (this.#ownership) return await this.#own(this.#ownership)
    // A request that is sent once is read to its end, also when another node has taken the key.
    if (this.#isDetached && !this.#mayBeOwner) return this.#goAlone()
    await this.#seek()
  }

  get #isDetached(): boolean {
    return this.#role === 'alone' && !this.#reader.isReopenable && this.#upstream.state !== 'none'
  }

  /** The store is away. */
  #goAlone(): void {
    this.#searchUntil = undefined
    if (this.#role !== 'alone') {
      this.#role = 'alone'
      this.#watch.reset()
      // What is kept of a run that is over is nothing to who was to begin another one.
      if (this.#reader.isRunOver && !this.#isReady) this.#reader.restart()
      this.#ownership?.withdraw()
      this.#ownership?.doubt()
      this.#noteBlindness()
    }
    for (const { blocks, cursor } of this.#upstream.takeAll()) this.#reader.deliverAhead(blocks, cursor)
    this.#letInAlone()
    const ending = this.#context.ending ?? this.#upstream.outcome ?? this.#whenLeft()
    if (ending) return this.#finishAlone(ending)
    if (this.#upstream.state !== 'none') return
    if (this.#node.onDown === 'refuse') return this.#awaitStore()
    if (this.#reader.head ? !this.#mayReopen : !this.#mayBegin) return this.#waitWithout()
    // What was read of a run of others is none of this one.
    if (!this.#options.isReopenable && !this.#ownership) this.#reader.restart()
    this.#upstream.open(this.#reader.cursor, this.#reader.hasDelivered)
    this.#noteBlindness()
  }

  #letInAlone(): void {
    this.#reader.head ??= this.#upstream.head
    if (this.#reader.head) this.#letIn(this.#reader.head)
  }

  /** For the other nodes the outcome is appended when the store is back, if the key is still this one's. */
  #finishAlone(outcome: Outcome | 'handed-over'): void {
    if (!this.#mayBeOwner) return this.#finish(outcome)
    this.#context.ending = outcome
    this.#upstream.close()
    this.#tell(outcome)
  }

  /** Who came for a run of others waits for the store, where it was seen that there is one. */
  #waitWithout(): void {
    if (this.#reader.head) return
    if (this.#isNew) this.#finish('none')
    else this.#awaitStore()
  }

  /** Whether this node may ask an upstream for a run of its own; what cannot be asked for again is asked for once. */
  get #mayBegin(): boolean {
    return this.#options.mayOpen && (this.#options.isReopenable || !this.#upstream.hasAsked)
  }

  /** Whether it may ask for the rest of a run. */
  get #mayReopen(): boolean {
    return this.#options.mayOpen && this.#options.isReopenable && this.#reader.isReopenable
  }

  /** Called where this node has no client and the store cannot say who else follows: how the run ends here after `lingerMs`. */
  #whenLeft(): 'handed-over' | 'lost' | undefined {
    if (this.#context.isWanted) return undefined
    const lingers = !this.#context.isLeaving && this.#upstream.state !== 'none'
    const until = lingers ? this.#unwantedSince + this.#options.lingerMs : 0
    if (this.#node.now() >= until) return this.#reader.isReopenable ? 'handed-over' : 'lost'
    this.#steps.wakeAt(until)
    return undefined
  }

  /** What the upstream brings may not follow what clients have got: they are told, rather than the log. */
  #noteBlindness(): void {
    if (this.#upstream.isBlind) this.#reader.miss()
    this.#upstream.isBlind = false
  }

  async #follow(): Promise<() => void> {
    const { store, name } = this.#node
    const following = store.follow(this.#options.key, name, this)
    try {
      return await this.#node.call(following)
    } catch (error) {
      // The call may still succeed later, when this no longer waits for it.
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
    if (now() >= this.#awayUntil) this.#finishAlone('lost')
    else this.#steps.wakeAt(this.#awayUntil)
  }

  /** Not the owner: reads the log to its end, and sees whether it has one. */
  async #seek(): Promise<void> {
    const { name } = this.#node
    const { mayOpen, busy } = this.#options
    this.#awayUntil = undefined
    this.#unfollow ??= await this.#follow()
    if (this.#isReady && this.#reader.at === undefined && (await this.#meetLog())) return
    const state = await catchUp(this.#node, this.#options.key, this.#reader)
    this.#watch.owner = state?.owner
    if (state && state.owner !== name) this.#mayBeOwner = false
    if (this.#isDetached && !this.#mayBeOwner) return this.#goAlone()
    const isSearching = this.#isSearching()
    // The log of another owner has all that an upstream of its own would bring.
    if (state && state.owner !== name && !this.#isBesideRun) {
      if (isSearching && this.#upstream.state !== 'none') return
      this.#upstream.close()
    }
    this.#role = 'seeking'
    const { head, outcome } = this.#reader
    if (this.#upstream.state === 'none' && (!this.#context.isWanted || this.#context.ending) && state?.owner !== name) {
      return this.#finish(this.#context.ending ?? 'left')
    }
    if (outcome !== undefined && outcome !== 'handed-over') return await this.#afterRun(state, outcome)
    if (!state && !head && !this.#mayBegin && this.#upstream.state === 'none') {
      return this.#finish(mayOpen ? 'lost' : 'none')
    }
    if (state && this.#isNew && busy === 'replace') return await this.#take(state, 'replace')
    const isLeft = !state || (await this.#watch.isLeftBy(state.owner, this.#isNew))
    // A request that is sent once does not go on with another request's run, and is not refused because of a run that no node
    // can go on with.
    const mustBegin = this.#isNew && isLeft && this.#mayBegin && !this.#options.isReopenable
    if (state && mustBegin) return await this.#take(state, 'new')
    if (state && this.#isNew && busy === 'refuse') return this.#finish('busy')
    this.#isNew = false
    if (!isLeft) {
      this.#watch.follow()
      this.#role = 'following'
      if (head) this.#letIn(head)
    } else if (this.#isItsTurn(state)) {
      await this.#take(state, this.#reader.began === undefined ? 'new' : 'same')
    }
  }

  /**
   * Clients were served without the store before anything of the log was read. Only its latest run may be theirs, and not if
   * that is over: theirs goes on. Returns whether the log is not to be read.
   */
  async #meetLog(): Promise<boolean> {
    const latest = await latestRun(this.#node, this.#options.key)
    if (!latest) return false
    const { state, before, isOver } = latest
    this.#reader.from = before
    const isOthers = state.owner !== this.#node.name
    if (isOthers) this.#mayBeOwner = false
    if (this.#isDetached && isOthers) this.#goAlone()
    else if (this.#isDetached || isOver) await this.#take(state, 'new')
    else return false
    return true
  }

  /** Whether the run that is over in the log is none of the clients', as far as that can be seen. */
  get #isBesideRun(): boolean {
    return this.#isReady && this.#reader.isApart && this.#reader.isRunOver
  }

  /** The run is over: for those who follow it as well, and for those who join what has ended. Others begin another one. */
  async #afterRun(state: KeyState | undefined, outcome: Outcome): Promise<void> {
    const { head } = this.#reader
    const joins = this.#options.joinsEnded && outcome === 'ended' && head !== undefined
    // What was stopped before it came is nothing to it.
    const isStopped = outcome === 'stopped' && !this.#isNew
    const isWanted = this.#context.isWanted && this.#context.ending === undefined
    const begins = this.#mayBegin && isWanted && (this.#isBesideRun || (!this.#isReady && !joins && !isStopped))
    if (begins) return await this.#take(state, 'new')
    // That is nothing to clients which have left a run of their own.
    if (this.#isBesideRun && !this.#context.isWanted) return this.#finish('left')
    this.#reader.endSearch()
    if (head) this.#letIn(head)
    this.#finish(outcome)
  }

  /** Whether the log has still to bring what the clients have got; an upstream of their own goes on until then. */
  #isSearching(): boolean {
    const { now, store } = this.#node
    if (!this.#reader.isSearching) this.#searchUntil = undefined
    if (!this.#reader.isSearching) return false
    // An owner that has died meanwhile has a successor by then.
    this.#searchUntil ??= now() + 3 * store.leaseMs
    this.#steps.wakeAt(this.#searchUntil)
    if (now() < this.#searchUntil) return true
    this.#searchUntil = undefined
    this.#reader.giveUp()
    return false
  }

  #isItsTurn(state: KeyState | undefined): boolean {
    const isFirst = state ? state.owner === this.#node.name : this.#upstream.state !== 'none' || !this.#reader.head
    return this.#watch.isTurn(isFirst, state !== undefined)
  }

  async #take(state: KeyState | undefined, run: Exclude<HeadRun, 'stop'>): Promise<void> {
    const { store, name } = this.#node
    const reader = this.#reader
    this.#watch.reset()
    const isSame = run === 'same'
    const isReopenable = isSame ? reader.isReopenable : this.#options.isReopenable
    const began = isSame ? reader.began : undefined
    const head = encodeEntry({ kind: 'head', node: name, run, began, isReopenable })
    const claim = { node: name, replaces: state?.last.fence ?? 0, head, keepMs: KEEP_MS }
    this.#mayBeOwner = true
    const added = await this.#node.call(store.take(this.#options.key, claim))
    this.wake()
    if (added.isRefused) return
    this.#isNew = false
    this.#node.noteTaken(isSame && reader.head !== undefined)
    this.#ownership = new Ownership(this.#context, added.fence, isSame ? this.#mayReopen : this.#mayBegin)
    this.#role = 'owning'
    if (!isSame) reader.beganRun({ fence: added.fence, seq: 0 }, isReopenable)
    // What has been read and is not there any more has been lost by the store.
    const { content } = reader
    if (content && (!state || isAfter(content, state.last))) reader.lost(state?.last)
  }

  async #own(ownership: Ownership): Promise<void> {
    const { began } = this.#reader
    let owned: Owned = ownership.hasTail ? 'owning' : await ownership.readTail()
    if (owned === 'owning') {
      this.#role = 'owning'
      owned = await ownership.write()
    }
    if (owned === 'owning') return
    if (owned !== 'superseded') return this.#finish(owned)
    // What this node has asked for is not of the run that has taken the place of its own.
    if (this.#reader.began !== began) this.#upstream.close()
    this.#ownership = undefined
    this.#role = 'seeking'
    this.wake()
  }

  #letIn(head: RunHead): void {
    if (this.#isReady) return
    this.#isReady = true
    this.#local.ready(head)
  }

  #deliver(blocks: readonly LogEntry[], isOfLog: boolean): void {
    // What an upstream of its own brings does not follow what another one has brought.
    if (isOfLog && !this.#upstream.drop(blocks)) this.#upstream.close()
    if (!this.#isTold) this.#local.deliver(blocks)
  }

  #tell(outcome: LocalOutcome | 'handed-over'): void {
    if (this.#isTold) return
    this.#isTold = true
    this.#local.over(outcome === 'handed-over' ? 'left' : outcome)
  }

  #finish(outcome: LocalOutcome | 'handed-over'): void {
    if (this.isOver) return
    this.#role = 'over'
    this.#ownership = undefined
    this.#upstream.close()
    this.#unfollow?.()
    this.#unfollow = undefined
    this.#steps.end()
    this.#node.remove(this)
    this.#tell(outcome)
  }
}

/** Whether they follow this position without a hole. */
function areNext(entries: readonly StoredEntry[], at: Position): boolean {
  return entries.every(({ position }, i) => isNext(position, entries[i - 1]?.position ?? at))
}
