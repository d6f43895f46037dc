// What a shared stream sends, block by block: events are counted, get ids of the proxy's own where those are asked for,
// and are kept for clients that come later. Comments and blank lines are for the followers that are here, and are not kept.

import type { Progress } from '../events/cursor.ts'
import { type Block, blocksOf, isKept, withOwnIds } from './blocks.ts'
import type { EventLog } from './event-log.ts'

/** Where the followers stand together: `Progress` of what all of them have been sent. */
export class Recorder implements Progress {
  /** How many events have been sent. */
  events = 0
  /** The last id that has been sent; before the first the one that the upstream was asked to go on from. */
  lastEventId: string
  readonly #log: EventLog
  // See the constructor.
  readonly #assigns: boolean
  // Begins each id given here, so that a client with an id of an earlier stream does not meet it in this one.
  readonly #epoch = `${Date.now().toString(36)}${Math.floor(Math.random() * 1_679_616).toString(36)}`
  // Ends the next id given here.
  #sequence = 0

  /** @param assigns whether events get ids of the proxy's own, in place of the upstream's */
  constructor(log: EventLog, assigns: boolean) {
    this.#log = log
    this.#assigns = assigns
    this.lastEventId = log.idBefore
  }

  /**
   * Keeps what passes, and returns it as it is to be sent.
   * @param came what it is made of, where that is known
   */
  record(pieces: readonly Buffer[], came: readonly Block[] = blocksOf(pieces)): readonly Buffer[] {
    const blocks = this.#assigns ? withOwnIds(came, () => `${this.#epoch}-${this.#sequence++}`) : came
    let isAllKept = true
    for (const { id, isEvent } of blocks) {
      if (isEvent) this.events++
      if (id !== undefined) this.lastEventId = id
      else if (!isEvent) isAllKept = false
    }
    this.#log.append(isAllKept ? blocks : blocks.filter(isKept), performance.now())
    return this.#assigns ? [Buffer.concat(blocks.map((block) => block.bytes))] : pieces
  }
}
