// The memory of a log: what is kept of one read lies in one page, as a copy, so that the read's own memory may be read into again.
// The memory of a page of which nothing is kept any more is used for the next one, unless somebody has got a part of it.

import { type Block, copyTo, lengthOf } from './blocks.ts'

const NOTHING = Buffer.alloc(0)
// A page above this size is used again.
const LARGE_BYTES = 4096

/** Where in its page an entry lies. */
export interface Place {
  readonly page: Page
  /** Set when the page is filled. */
  start: number
  readonly length: number
}

/** What is kept of one read. */
export class Page {
  memory: Buffer = NOTHING
  /** How many entries are kept of it. */
  entries: number
  /** What of its memory no entry takes. */
  spareBytes = 0
  // Whether somebody has got a part of it, who may not be done with that.
  #isShared = false

  constructor(entries: number) {
    this.entries = entries
  }

  /** Whether its memory may be used for another page. */
  get isFree(): boolean {
    return this.entries === 0 && !this.#isShared
  }

  /** The bytes of an entry, for whoever wants them and for as long. */
  give({ start, length }: Place): Buffer {
    this.#isShared = true
    return this.memory.subarray(start, start + length)
  }
}

/** The pages of one log. */
export class LogPages {
  readonly #count: (bytes: number) => void
  // The memory of a page that has become free.
  #spare: Buffer | undefined

  /** @param count is told how much more memory is taken than entries take, or less */
  constructor(count: (bytes: number) => void) {
    this.#count = count
  }

  /** Copies the blocks, one for each place. */
  fill(page: Page, blocks: readonly Block[], places: readonly Place[]): void {
    page.memory = this.#memoryOf(lengthOf(blocks))
    copyTo(page.memory, blocks)
    const length = placeOneByOne(places)
    page.spareBytes = page.memory.length - length
    this.#count(page.spareBytes)
  }

  /** One entry fewer is kept of the page. */
  drop(page: Page): void {
    page.entries--
    if (page.entries === 0) this.#count(-page.spareBytes)
  }

  /** Keeps the memory of a free page for the next one, which counts. */
  reuse(page: Page): void {
    if (page.isFree && page.memory.length > LARGE_BYTES) this.#keep(page.memory)
  }

  /** Gives up what waits to be used again. */
  clear(): void {
    this.#keep(undefined)
  }

  /** Copies what is left of a page, where that is little: all of the page is kept with it otherwise. */
  pack(page: Page, places: readonly Place[]): void {
    const length = lengthOf(places)
    if (length > page.memory.length / 2) return
    const memory = Buffer.allocUnsafeSlow(length)
    let at = 0
    for (const place of places) at += page.give(place).copy(memory, at)
    placeOneByOne(places)
    page.memory = memory
    this.#count(-page.spareBytes)
    page.spareBytes = 0
  }

  /** Not of Node's pool, of which 64 KiB would be kept with it. */
  #memoryOf(length: number): Buffer {
    const spare = this.#spare
    if (!spare || spare.length < length || spare.length > 2 * length) return Buffer.allocUnsafeSlow(length)
    this.#keep(undefined)
    return spare
  }

  #keep(memory: Buffer | undefined): void {
    this.#count((memory?.length ?? 0) - (this.#spare?.length ?? 0))
    this.#spare = memory
  }
}

/** Returns how much they take together. */
function placeOneByOne(places: readonly Place[]): number {
  let at = 0
  for (const place of places) {
    place.start = at
    at += place.length
  }
  return at
}
