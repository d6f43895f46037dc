// Who may enter: nobody while draining, and no more than the limits allow. A ticket stands for what the proxy holds: a
// request until its response is over, a stream that goes on without a client until it is over as well.

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

/** A place, to be given back once. */
export interface Ticket {
  /** Whose it is; only known where clients are limited. */
  readonly client: string | undefined
  giveBack(): void
}

/** The place of a stream that nobody follows, which goes when somebody else needs it. */
interface Lingering extends Ticket {
  close(): void
}

interface Client {
  inside: number
  /** Of those, the ones that nobody follows, the oldest first. */
  readonly lingering: Set<Lingering>
}

export class Admission {
  readonly #policy: AdmissionPolicy
  readonly #perClient = new Map<string, Client>()
  // Those that nobody follows, the oldest first.
  readonly #lingering = new Set<Lingering>()
  // The ticket of all who are not counted one by one.
  readonly #anybody: Ticket = { client: undefined, giveBack: () => void this.#inside-- }
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

  /**
   * Before anybody is refused, the oldest stream that nobody follows is closed.
   * @param heir the ticket of a stream without a follower that the request will follow, and whose place it takes
   * @throws AdmissionError
   */
  enter(req: IncomingMessage, heir?: Ticket): Ticket {
    const { streams, streamsPerClient, clientKey } = this.#policy
    if (this.#draining) throw new AdmissionError('ERR_SSE_PROXY_DRAINING')
    const isFull = streams > 0 && this.#inside - (heir ? 1 : 0) >= streams
    const oldest = isFull ? firstOf(this.#lingering, heir) : undefined
    if (isFull && !oldest) throw new AdmissionError('ERR_SSE_PROXY_FULL')

    if (streamsPerClient === 0) {
      oldest?.close()
      this.#inside++
      return this.#anybody
    }
    const name = checkKey(clientKey(req))
    const client = this.#perClient.get(name)
    const isAtLimit = (client?.inside ?? 0) - (heir?.client === name ? 1 : 0) >= streamsPerClient
    const oldestOwn = client && isAtLimit ? firstOf(client.lingering, heir) : undefined
    if (isAtLimit && !oldestOwn) throw new AdmissionError('ERR_SSE_PROXY_CLIENT_LIMIT')
    ;(oldestOwn ?? oldest)?.close()
    this.#count(name)
    return { client: name, giveBack: () => this.#giveBack(name) }
  }

  /**
   * The place of a stream that nobody follows any more, which is there whether there is a free one or not.
   * @param name whose it is
   * @param close called when the place is needed; it must give the ticket back
   */
  linger(name: string | undefined, close: () => void): Ticket {
    const client = name === undefined ? undefined : this.#count(name)
    if (!client) this.#inside++
    const giveBack = () => {
      this.#lingering.delete(lingering)
      client?.lingering.delete(lingering)
      if (name === undefined) this.#inside--
      else this.#giveBack(name)
    }
    const lingering = { client: name, close, giveBack }
    this.#lingering.add(lingering)
    client?.lingering.add(lingering)
    return lingering
  }

  /** Closes the stream that nobody has followed for longest; false where there is none. */
  closeOldestLingering(): boolean {
    const [oldest] = this.#lingering
    oldest?.close()
    return oldest !== undefined
  }

  #count(name: string): Client {
    const client = this.#perClient.get(name) ?? { inside: 0, lingering: new Set() }
    this.#perClient.set(name, client)
    client.inside++
    this.#inside++
    return client
  }

  #giveBack(name: string): void {
    const client = this.#perClient.get(name)
    this.#inside--
    if (client && --client.inside === 0) this.#perClient.delete(name)
  }
}

/** A key that is none would be nobody's, and its bearer without a limit. */
function checkKey(key: unknown): string {
  if (typeof key === 'string' || typeof key === 'number') return String(key)
  const got = `${inspect(key, { depth: 0 })} (${typeof key})`
  throw new TypeError(`limits.clientKey: expected the function to return a string, got ${got}`)
}

function firstOf(lingering: Iterable<Lingering>, except: Ticket | undefined): Lingering | undefined {
  for (const each of lingering) if (each !== except) return each
  return undefined
}
