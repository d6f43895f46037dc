// Admission control: no request while draining, and no more than the limits allow. A ticket counts what the proxy holds: a
// request until its response is over, and a stream that outlives its client until it is over as well.

import type { IncomingMessage } from 'node:http'
import { inspect } from 'node:util'
import { AdmissionError } from './errors.ts'

/** The limits in number; see the option `limits`. */
export interface AdmissionPolicy {
  /** 0 for no limit. */
  readonly streams: number
  /** 0 for no limit. */
  readonly streamsPerClient: number
  /** Whose request it is. Called only where `streamsPerClient` limits; may throw, and may return anything. */
  readonly clientKey: (req: IncomingMessage) => string
}

/** One of the counted streams; to be given back exactly once. */
export interface Ticket {
  /** The key of its client; undefined where clients are not limited. */
  readonly client: string | undefined
  giveBack(): void
}

/** The ticket of a shared stream without followers, which is closed when a request needs its place. */
interface Lingering extends Ticket {
  close(): void
}

/** The tickets of one client key. */
interface Client {
  inside: number
  /** Those of streams without followers, the oldest first. They are counted in `inside` too. */
  readonly lingering: Set<Lingering>
}

/** Gives out the tickets of one proxy. */
export class Admission {
  readonly #policy: AdmissionPolicy
  // By client key. An entry goes with its last ticket, so that there are no more than tickets.
  readonly #perClient = new Map<string, Client>()
  // Of all clients, the oldest first.
  readonly #lingering = new Set<Lingering>()
  // The one ticket for every request where clients are not limited, so that admission allocates nothing.
  readonly #unnamed: Ticket = { client: undefined, giveBack: () => void this.#inside-- }
  // All tickets that are out. Leaking one would lower the limit for good.
  #inside = 0
  // Set once, by `drain`.
  #draining = false

  constructor(policy: AdmissionPolicy) {
    this.#policy = policy
  }

  /** How many tickets are out. */
  get inside(): number {
    return this.#inside
  }

  /** How many clients hold tickets; 0 where clients are not limited. */
  get clients(): number {
    return this.#perClient.size
  }

  /** Whether every request is refused. */
  get isDraining(): boolean {
    return this.#draining
  }

  /** Refuses every request from now on. */
  drain(): void {
    this.#draining = true
  }

  /**
   * Takes a ticket. At a limit, the oldest stream without followers is closed before a request is refused.
   * @param heir the ticket of a stream without followers that the request will follow, and whose place it takes
   * @throws AdmissionError, or what `clientKey` throws
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
      return this.#unnamed
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
   * The ticket of a stream that has lost its last follower. It never fails: a limit may be exceeded by it.
   * @param name the key of its client
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

  /** Closes the stream that has been without followers for longest; false where there is none. */
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

/** Anything but a string or a number is an error: undefined stands for a client that is not limited. */
function checkKey(key: unknown): string {
  if (typeof key === 'string' || typeof key === 'number') return String(key)
  const got = `${inspect(key, { depth: 0 })} (${typeof key})`
  throw new TypeError(`limits.clientKey: expected the function to return a string, got ${got}`)
}

function firstOf(lingering: Iterable<Lingering>, except: Ticket | undefined): Lingering | undefined {
  for (const each of lingering) if (each !== except) return each
  return undefined
}
