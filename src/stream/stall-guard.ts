// Whether a client takes what waits for it. One that takes nothing for too long is slow, and the owner of its response lets
// it go.

import type { ServerResponse } from 'node:http'
import { Watchdog } from '../watchdog.ts'
import { sendingBytesOf } from './client-connection.ts'

/** The waits of one response for its client. */
export class StallGuard {
  readonly #res: ServerResponse
  readonly #waitingBytes: () => number
  readonly #onStall: () => void
  /** What has been written since this was made; each write adds to it. */
  writtenBytes = 0
  // Runs while the client leaves something waiting, and for a part of the wait at most behind that; cleared by `stop`.
  #watchdog: Watchdog | undefined
  // What had been taken when that wait began, and how much of the write under way had not. A change of either is progress.
  #takenBytes = 0
  #sendingBytes = 0

  /**
   * @param waitingBytes what has been written and not been taken
   * @param onStall called when the client has taken nothing for as long as it may
   */
  constructor(res: ServerResponse, waitingBytes: () => number, onStall: () => void) {
    this.#res = res
    this.#waitingBytes = waitingBytes
    this.#onStall = onStall
  }

  /** The client is behind. Most waits are over at once and come again, so that one watchdog lasts for many of them. */
  begin(ms: number): void {
    if (this.#watchdog) return
    this.#hasTaken()
    const stalled = () => {
      this.stop()
      this.#onStall()
    }
    this.#watchdog = new Watchdog(ms, stalled, () => this.#isTaking())
  }

  /** There is no `onStall` any more, unless the client falls behind again. */
  stop(): void {
    this.#watchdog?.stop()
    this.#watchdog = undefined
  }

  /** Whether the client goes on with what waits for it. Where nothing does, the wait is over. */
  #isTaking(): boolean {
    if (this.#waitingBytes() > 0) return this.#hasTaken()
    this.stop()
    return true
  }

  /** Whether the client has taken anything since this was asked last. */
  #hasTaken(): boolean {
    const takenBytes = this.writtenBytes - this.#waitingBytes()
    const sendingBytes = sendingBytesOf(this.#res)
    const hasTaken = takenBytes > this.#takenBytes || sendingBytes !== this.#sendingBytes
    this.#takenBytes = takenBytes
    this.#sendingBytes = sendingBytes
    return hasTaken
  }
}
