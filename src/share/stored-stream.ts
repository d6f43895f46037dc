// The stream of one key on this node, where a store is shared with others: its clients, its part in the log (a `Member`),
// and the upstream while this node is the one that reads it (a `Publisher`). What the upstream brings goes into the log, and
// what the log brings goes to the clients.

import { joined } from '../bytes.ts'
import { StreamError } from '../errors.ts'
import type { Progress } from '../events/cursor.ts'
import type { SessionHead } from '../stream/session.ts'
import { isKept } from './blocks.ts'
import type { EventLog, LogEntry } from './event-log.ts'
import type { FollowedStream } from './followed-stream.ts'
import { type Follower, Followers } from './followers.ts'
import type { LocalOutcome, RunHead } from './nodes/entries.ts'
import type { LocalStream } from './nodes/local-stream.ts'
import type { Member } from './nodes/member.ts'
import type { SharingRequest } from './opening.ts'
import { Publisher, type PublisherContext } from './publisher.ts'

/** What a stored stream is made of, and who is told what becomes of it. */
export interface StoredStreamContext extends Omit<PublisherContext, 'leader'> {
  /** The request in whose name this node asks the upstream now. */
  nextLeader(): SharingRequest
  /** Makes the log of what clients here may come back to. */
  createLog(idBefore: string): EventLog
  settle(): void
  /** Clients may follow it from now on; the leader gets its own head where this node has asked for it. */
  onReady(head: SessionHead, own: SessionHead | undefined): void
  /** The last client has left, or the first has come. */
  onFollowers(): void
  onOver(outcome: LocalOutcome): void
}

export class StoredStream implements FollowedStream, LocalStream {
  readonly context: StoredStreamContext
  log: EventLog
  /** Set as soon as it is made, before anything of it is called. */
  member: Member | undefined
  readonly atBoundary = true
  isOver = false
  // Where the clients stand together.
  #sent = { events: 0, lastEventId: '' }
  readonly #followers = new Followers()
  // Set while this node reads the upstream.
  #upstream: Publisher | undefined
  #upstreamLabel = ''

  constructor(context: StoredStreamContext) {
    this.context = context
    this.log = context.createLog('')
  }

  get id(): string {
    return this.context.id
  }

  get sent(): Progress {
    return this.#sent
  }

  get clients(): number {
    return this.#followers.size
  }

  // As clients follow it.

  join(follower: Follower): void {
    // It is let in when all that was kept of it has been read, its ending included.
    if (this.isOver) return follower.onEnd()
    this.#followers.add(follower)
    this.context.onFollowers()
  }

  leave(follower: Follower): void {
    if (this.#followers.delete(follower)) this.context.onFollowers()
  }

  // As the member's part in it.

  open(cursor: string): void {
    const leader = this.context.nextLeader()
    const publisher = new Publisher({ ...this.context, leader }, cursor, {
      opened: (head, upstream) => this.#onOpened(head, upstream),
      received: (blocks, id) => this.member?.received(blocks, id),
      over: (outcome) => this.member?.upstreamOver(outcome),
      end: () => this.member?.end('stopped'),
    })
    this.#upstream = publisher
    void leader.inContext(() => publisher.open())
  }

  #onOpened(head: RunHead, upstream: string): void {
    this.#upstreamLabel = upstream
    this.member?.opened(head)
  }

  close(): void {
    const upstream = this.#upstream
    this.#upstream = undefined
    upstream?.close()
  }

  pause(): void {
    this.#upstream?.pause()
  }

  unpause(): void {
    this.#upstream?.unpause()
  }

  begin(): void {
    this.#startLog('')
  }

  ready({ statusMessage, headers, idBefore }: RunHead): void {
    if (this.log.end === 0) this.#startLog(idBefore)
    this.context.onReady({ upstream: this.#upstreamLabel, statusMessage, headers }, this.#upstream?.head)
  }

  deliver(blocks: readonly LogEntry[]): void {
    const kept = blocks.filter(isKept)
    const events = kept.filter(({ isEvent }) => isEvent).length
    this.#sent.events += events
    this.#sent.lastEventId = kept.findLast(({ id }) => id !== undefined)?.id ?? this.#sent.lastEventId
    this.log.append(kept, performance.now())
    this.#followers.deliver([joined(blocks.map(({ bytes }) => bytes))], events)
    this.context.settle()
  }

  gap(): void {
    this.log.cut()
    this.#followers.tellGap()
  }

  over(outcome: LocalOutcome): void {
    if (this.isOver) return
    this.isOver = true
    // Its followers have a part of it. 'unshared': the node that was to go on got an answer that is not this stream. 'left': the
    // run was ended for want of followers, just as these came.
    const failure = ['lost', 'unshared', 'left'].includes(outcome) ? this.#lost() : undefined
    for (const follower of this.#followers.dismiss()) {
      if (failure) follower.onFailed(failure)
      else if (outcome === 'ended') follower.onEnd()
      else follower.onClosed()
    }
    this.context.onOver(outcome)
    this.log.close()
  }

  /** The node that has lost the upstream has told its app of it. */
  #lost(): StreamError {
    return new StreamError('ERR_SSE_PROXY_UPSTREAM_LOST', new Error('the shared stream is lost'))
  }

  #startLog(idBefore: string): void {
    this.log.close()
    this.log = this.context.createLog(idBefore)
    this.#sent = { events: 0, lastEventId: idBefore }
  }
}
