// The last events of a shared stream, bounded by number, bytes and age, and the places in it where clients stand.

import type { Kept, ReplayBudget } from './replay-budget.ts'

export interface ReplayPolicy {
  readonly events: number
  readonly bytes: number
  readonly ageMs: number
}

/** A block of the stream. */
export interface ReplayBlock {
  readonly bytes: Buffer
  /** The id that it sets, if it does. */
  readonly id: string | undefined
  /** Whether it dispatches an event. */
  readonly isEvent: boolean
}

// What keeping any block takes beside its bytes and its id.
const ENTRY_BYTES = 256
// What keeping a block takes beside its bytes. An event's bytes are the app's affair; blocks that are no events count
// for no more than their bytes otherwise, and could be many.
const BLOCK_BYTES = 128

interface Entry extends ReplayBlock {
  readonly at: number
}

export class Replay implements Kept {
  /** What it takes in memory, as far as that is known. */
  keptBytes = 0
  readonly #policy: ReplayPolicy
  readonly #budget: Pick<ReplayBudget, 'add'>
  #entries: Entry[] = []
  // The entries before this one are gone; they leave the array together, now and then.
  #head = 0
  #bytes = 0
  #events = 0
  // The position of the oldest entry kept: positions count all events there ever were.
  #first = 0
  // The id a client would have that has seen everything before the oldest entry, unless the last of that had none.
  #idBefore: string
  #idBeforeIsExact = true
  // Where each id was set last.
  readonly #positions = new Map<string, number>()

  constructor(policy: ReplayPolicy, idBefore: string, budget: Pick<ReplayBudget, 'add'>) {
    this.#policy = policy
    this.#budget = budget
    this.#idBefore = idBefore
  }

  /** The position of the next event to come. */
  get end(): number {
    return this.#first + this.#entries.length - this.#head
  }

  /** The position of the oldest event kept. */
  get first(): number {
    return this.#first
  }

  /** The id a client has that has seen all that is gone. */
  get idBefore(): string {
    return this.#idBefore
  }

  /** Keeps a block as long as the bounds allow; it may be less than no time. */
  add(block: ReplayBlock, now: number): void {
    if (block.id !== undefined) this.#positions.set(block.id, this.end)
    // A copy, since what was read with it may be much larger.
    this.#entries.push({ ...block, bytes: Buffer.from(block.bytes), at: now })
    this.#bytes += sizeOf(block)
    this.#noteKept(memoryOf(block))
    if (block.isEvent) this.#events++
    this.trim(now)
  }

  /** Where a client goes on that has seen everything up to this id; undefined where that is not known any more. */
  positionAfter(id: string): number | undefined {
    const position = this.#positions.get(id)
    if (position !== undefined) return position + 1
    return id === this.#idBefore && this.#idBeforeIsExact ? this.#first : undefined
  }

  /** Where the last so many events begin. */
  beforeLast(events: number): number {
    let position = this.end
    for (let left = events; left > 0 && position > this.#first; position--) {
      if (this.#entries[this.#head + position - 1 - this.#first]?.isEvent) left--
    }
    return position
  }

  /** What came from this position on, as far as it is kept. */
  since(position: number): readonly ReplayBlock[] {
    return this.#from(position)
  }

  /** How many of those are events. */
  eventsSince(position: number): number {
    return this.#from(position).filter(({ isEvent }) => isEvent).length
  }

  #from(position: number): Entry[] {
    return this.#entries.slice(this.#head + Math.max(position - this.#first, 0))
  }

  trim(now: number): void {
    const { events, bytes, ageMs } = this.#policy
    for (;;) {
      const oldest = this.#entries[this.#head]
      if (!oldest) break
      if (this.#events <= events && this.#bytes <= bytes && now - oldest.at <= ageMs) break
      this.#drop(oldest)
    }
    this.#forgetDropped()
  }

  trimTo(bytes: number): void {
    for (let oldest = this.#entries[this.#head]; oldest && this.keptBytes > bytes; oldest = this.#entries[this.#head]) {
      this.#drop(oldest)
    }
    this.#forgetDropped()
  }

  #noteKept(bytes: number): void {
    this.keptBytes += bytes
    this.#budget.add(bytes)
  }

  #forgetDropped(): void {
    if (this.#head > 64 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head)
      this.#head = 0
    }
  }

  #drop(entry: Entry): void {
    const { id, isEvent } = entry
    if (id !== undefined) {
      if (this.#positions.get(id) === this.#first) this.#positions.delete(id)
      this.#idBefore = id
    }
    this.#idBeforeIsExact = id !== undefined
    this.#bytes -= sizeOf(entry)
    this.#noteKept(-memoryOf(entry))
    if (isEvent) this.#events--
    this.#head++
    this.#first++
  }
}

function sizeOf({ bytes, isEvent }: ReplayBlock): number {
  return isEvent ? bytes.length : bytes.length + BLOCK_BYTES
}

function memoryOf({ bytes, id = '' }: ReplayBlock): number {
  return bytes.length + id.length + ENTRY_BYTES
}
