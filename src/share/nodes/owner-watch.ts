// The owner of a key, as another node that follows it sees it: whether it has gone, or does not know any more that it is one,
// and when it is this node's turn to take the key.

import type { StoreNode } from './node.ts'
import type { LogReader } from './reader.ts'
import type { Steps } from './steps.ts'

export class OwnerWatch {
  /** The node that has the key, as the store said last. */
  owner: string | undefined
  readonly #node: StoreNode
  readonly #key: string
  readonly #reader: LogReader
  readonly #steps: Steps
  // How many checks in a row have not found the owner among those that follow the key, as it does until it is over; and
  // whether one has found it since the log was read, so that it is not asked for any more.
  #strayChecks = 0
  #isSure = false
  // When this node takes a key that has lost its owner: all that follow have noticed at the same time.
  #contendAt: number | undefined

  constructor(node: StoreNode, key: string, reader: LogReader, steps: Steps) {
    this.#node = node
    this.#key = key
    this.#reader = reader
    this.#steps = steps
  }

  /** The owner is there, and this node follows it. */
  follow(): void {
    this.#contendAt = undefined
    this.#isSure = false
  }

  /** This node takes the key, or goes on without the store. */
  reset(): void {
    this.#contendAt = undefined
    this.#strayChecks = 0
  }

  /**
   * Whether that owner has gone, or does not know any more that it is one.
   * @param isNew whether this node has just come: what was taken in vain before is not waited for
   */
  async isLeftBy(owner: string, isNew: boolean): Promise<boolean> {
    const { outcome, wordlessSince } = this.#reader
    if (owner === this.#node.name || outcome === 'handed-over' || this.#isWordless()) return true
    if (this.#strayChecks > 1 || (await this.#node.isDead(owner))) return true
    return isNew && wordlessSince !== undefined && !(await this.#isFollowedBy(owner))
  }

  /** A node may live and not know any more that a key is its own: the store has lost how the run has ended. */
  async check(): Promise<void> {
    const { owner } = this
    const { at } = this.#reader
    if (owner === undefined || this.#isSure) return
    const isThere = await this.#isFollowedBy(owner)
    if (this.#reader.at !== at || this.owner !== owner) return
    this.#isSure = isThere
    this.#strayChecks = isThere ? 0 : this.#strayChecks + 1
    if (this.#strayChecks > 1) this.#steps.wake()
  }

  /**
   * @param isFirst whether it comes before all others
   * @param hasLog where that is gone its owner notices as well, and has an upstream to go on with
   */
  isTurn(isFirst: boolean, hasLog: boolean): boolean {
    const { store, now, chance } = this.#node
    const mostMs = store.leaseMs / (hasLog ? 20 : 5)
    const waitMs = isFirst || this.#reader.outcome === 'handed-over' ? 0 : mostMs * (0.5 + chance() / 2)
    this.#contendAt ??= now() + waitMs
    if (now() >= this.#contendAt) return true
    this.#steps.wakeAt(this.#contendAt)
    return false
  }

  /** Whether an owner has said nothing but its head for so long that it may not know of it. */
  #isWordless(): boolean {
    const { wordlessSince } = this.#reader
    if (wordlessSince === undefined) return false
    const until = wordlessSince + this.#node.store.leaseMs
    if (this.#node.now() >= until) return true
    this.#steps.wakeAt(until)
    return false
  }

  async #isFollowedBy(node: string): Promise<boolean> {
    return (await this.#node.call(this.#node.store.followers(this.#key))).includes(node)
  }
}
