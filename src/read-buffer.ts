// The memory that a connection is read into. Node takes 64 KiB for every read, and V8 frees them one by one; here a connection
// has a buffer of its own, which is used again once nothing refers to what was read. Whoever does not borrow gets reads whose
// memory is theirs, as from Node.
//
// No connection is read into another's buffer: what was read cannot come to be part of another stream.

import type { OnReadOpts, Socket } from 'node:net'
import { compact } from './bytes.ts'

// A connection that is silent keeps a small buffer. A read that fills it is followed by one into a large buffer.
const SMALL = 1024
const LARGE = 65_536
// In a flood the calls of a read and its write, and waking the client up, cost more than the bytes: a read brings more of them.
const HUGE = 524_288
// After so many reads that have filled much of it, a large buffer is kept even where no more is there to be read: what is kept
// of a burst is a small part of it. After so many that have filled it and were borrowed, a huge one is. All connections
// together keep so much.
const MANY_READS = 8
const MAX_KEPT_BYTES = 256 * LARGE
let keptBytes = 0

// How much of V8's heap a large read takes that is given away, for no longer than a moment.
const HEAP_BYTES = 24_576
// V8 frees the memory of such reads by its minor collections, which come by what is taken in its heap. From version 13 on it begins
// a major one, at many times the price, where none has come before 64 MB of them.
const collectsLate = Number.parseInt(process.versions.v8, 10) >= 13

/** Reads from memory that is used again. */
export interface Borrower {
  /** Takes a read, which is valid until this returns, or for as long as it `keeps` it. False where it is to come like any other. */
  borrow(read: Buffer): boolean
  /** Whether it still refers to memory that it has borrowed. */
  keeps(memory: Buffer): boolean
  /** Whether it passes reads on as they are. For whoever copies them, a huge one is more than the processor's cache holds. */
  readonly takesHuge: boolean
}

// Other runtimes read in ways of their own.
const isNode = process.versions.bun === undefined && process.versions.deno === undefined
const ofSockets = new WeakMap<Socket, ReadBuffer>()

/** Lets what a connection reads be borrowed from now on; without a borrower, no longer. */
export function lendReads(socket: Socket, borrower: Borrower | undefined): void {
  ofSockets.get(socket)?.lend(borrower)
}

/** Opens a connection whose reads can be borrowed, where the runtime has a way to. */
export function connectLending(connect: (onread: OnReadOpts | undefined) => Socket): Socket {
  if (!isNode) return connect(undefined)
  const reads = new ReadBuffer()
  const socket = connect(reads)
  ofSockets.set(socket, reads)
  reads.begin(socket)
  return socket
}

/** What Node reads a connection into, and calls with each read. */
class ReadBuffer implements OnReadOpts {
  // Undefined until `begin`, before which nothing is read.
  #socket: Socket | undefined
  #borrower: Borrower | undefined
  // How large the next buffer is.
  #size = SMALL
  // How many reads in a row have filled much of a large one, how many all of it, and the size of the buffer that is kept therefore.
  #largeReads = 0
  #fullReads = 0
  #kept = 0
  // Where the next read goes. Undefined where it is not known to be free.
  #memory: Buffer | undefined
  // What the borrower keeps.
  #lent: readonly Buffer[] = []

  begin(socket: Socket): void {
    this.#socket = socket
  }

  lend(borrower: Borrower | undefined): void {
    this.#borrower = borrower
    this.#lent = []
  }

  /** Called by Node before the first read and after each. */
  readonly buffer = (): Buffer => {
    this.#memory ??= Buffer.allocUnsafeSlow(this.#size)
    return this.#memory
  }

  /** Called by Node with a read. False where no more is wanted for now. */
  readonly callback = (length: number): boolean => {
    const memory = this.buffer()
    this.#memory = undefined
    const read = memory.subarray(0, length)
    const isLent = this.#lend(memory, read)
    const wantsMore = isLent || this.#pass(memory, read)
    this.#fit(length, memory.length, isLent)
    return wantsMore && !this.#yields(memory.length)
  }

  /** Lets all others have their turn behind a huge read: Node reads on, many times, for as long as reads fill their buffer. */
  #yields(size: number): boolean {
    if (size < HUGE || !this.#socket) return false
    setImmediate(readOn, this.#socket)
    return true
  }

  /** Whether the borrower has taken it. */
  #lend(memory: Buffer, read: Buffer): boolean {
    const socket = this.#socket
    const borrower = this.#borrower
    // What the socket holds has come before, and leaves before.
    if (!socket || !borrower || socket.isPaused() || socket.readableLength > 0 || !borrower.borrow(read)) return false
    this.#reclaim([...this.#lent, memory], borrower)
    return true
  }

  #pass(memory: Buffer, read: Buffer): boolean {
    const own = compact(read)
    if (own !== read) this.#memory = memory
    else if (memory.length >= LARGE) collectSoon(memory)
    return this.#socket?.push(own) ?? true
  }

  /** Of what was lent, what is free is read into again. */
  #reclaim(lent: readonly Buffer[], borrower: Borrower): void {
    this.#lent = lent.filter((memory) => {
      const isKept = borrower.keeps(memory)
      if (!isKept) this.#memory = memory
      return isKept
    })
  }

  /** Chooses the size of the next buffer by how much of the last one was filled. */
  #fit(length: number, size: number, isLent: boolean): void {
    if (size >= LARGE) this.#largeReads = length > LARGE / 2 ? this.#largeReads + 1 : 0
    // Of a stream that is in step, the start of an event may be kept, and no more.
    const isInStep = isLent && this.#lent.length < 2 && this.#borrower?.takesHuge === true
    this.#fullReads = isInStep && length >= LARGE ? this.#fullReads + 1 : 0
    if (this.#largeReads < MANY_READS) this.#keep(0)
    else this.#keep(this.#fullReads < MANY_READS ? LARGE : HUGE)
    this.#size = this.#kept || (length === size ? LARGE : SMALL)
    if (this.#memory?.length !== this.#size) this.#memory = undefined
  }

  /** @param size none where it is 0 */
  #keep(size: number): void {
    const bytes = keptBytes - this.#kept + size
    if (size === this.#kept || bytes > MAX_KEPT_BYTES) return
    if (this.#kept === 0) this.#socket?.once('close', this.#onClose)
    if (size === 0) this.#socket?.off('close', this.#onClose)
    this.#kept = size
    keptBytes = bytes
  }

  readonly #onClose = (): void => {
    this.#keep(0)
  }
}

/** Whoever has paused the connection meanwhile has it read on. */
function readOn(socket: Socket): void {
  if (!socket.isPaused()) socket.read(0)
}

/** Has V8's next minor collection come before a major one would: what it counts is a text that nobody keeps. */
function collectSoon(memory: Buffer): void {
  if (collectsLate) memory.toString('latin1', 0, HEAP_BYTES)
}
