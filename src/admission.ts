// Who may enter: nobody while draining, and no more than the limits allow. A ticket stands for a request until its
// response is over.

import type { IncomingMessage } from 'node:http'
import { inspect } from 'node:util'
import { AdmissionError } from './errors.ts'

export interface AdmissionPolicy {
  /** 0 for no limit. */
  readonly streams: number
  /** 0 for no limit. */
  readonly streamsPerClient: number
  readonly clientKey: (req: IncomingMessage) => string
}

/** To be given back, once. */
export type Ticket = () => void

export class Admission {
  readonly #policy: AdmissionPolicy
  readonly #perClient = new Map<string, number>()
  #inside = 0
  #draining = false

  constructor(policy: AdmissionPolicy) {
    this.#policy = policy
  }

  get inside(): number {
    return this.#inside
  }

  /** How many clients hold tickets; only known where they are limited. */
  get clients(): number {
    return this.#perClient.size
  }

  get isDraining(): boolean {
    return this.#draining
  }

  /** From now on nobody enters. */
  drain(): void {
    this.#draining = true
  }

  /** @throws AdmissionError */
  enter(req: IncomingMessage): Ticket {
    const { streams, streamsPerClient, clientKey } = this.#policy
    if (this.#draining) throw new AdmissionError('ERR_SSE_PROXY_DRAINING')
    if (streams > 0 && this.#inside >= streams) throw new AdmissionError('ERR_SSE_PROXY_FULL')
    const key = streamsPerClient > 0 ? checkKey(clientKey(req)) : undefined
    if (key !== undefined && this.#count(key) >= streamsPerClient)
      throw new AdmissionError('ERR_SSE_PROXY_CLIENT_LIMIT')
    this.#inside++
    if (key === undefined) return this.#giveBack
    this.#perClient.set(key, this.#count(key) + 1)
    return () => {
      this.#giveBack()
      this.#forget(key)
    }
  }

  // The ticket of all who are not counted one by one.
  readonly #giveBack = (): void => {
    this.#inside--
  }

  #count(key: string): number {
    return this.#perClient.get(key) ?? 0
  }

  #forget(key: string): void {
    const left = this.#count(key) - 1
    if (left > 0) this.#perClient.set(key, left)
    else this.#perClient.delete(key)
  }
}

/** A key that is none would be nobody's, and its bearer without a limit. */
function checkKey(key: unknown): string {
  if (typeof key === 'string' || typeof key === 'number') return String(key)
  const got = `${inspect(key, { depth: 0 })} (${typeof key})`
  throw new TypeError(`limits.clientKey: expected the function to return a string, got ${got}`)
}
