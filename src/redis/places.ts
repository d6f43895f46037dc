// The places of clients over all nodes: of a client a hash, from each place to the node that has taken it, which counts while
// that node is alive.

import type { Connection } from './connection.ts'
import { scriptOf, wholeMs } from './log-script.ts'
import { listOf, textOf } from './replies.ts'

// The places of a client that all nodes have left without a word are dropped after so long; said again in half of it.
const KEEP_MS = 86_400_000

// So many places are remembered that could not be given back while Redis was away. The client has the others until the
// node ends, or a day has gone.
const MAX_OWED = 100_000

// Commands that are sent together.
const BATCH = 500

// Looks and takes in one step, so that places taken at the same time are no more than there are.
const PLACE_SCRIPT = scriptOf(`
local places, place, node, max, keep_ms = KEYS[1], unpack(ARGV, 1, 4)
if #ARGV > 4 then
  local dead, taken = {}, redis.call('HGETALL', places)
  for i = 5, #ARGV do dead[ARGV[i]] = true end
  for i = 1, #taken, 2 do
    if dead[taken[i + 1]] then redis.call('HDEL', places, taken[i]) end
  end
end
if redis.call('HEXISTS', places, place) == 0 and redis.call('HLEN', places) >= tonumber(max) then
  return redis.call('HVALS', places)
end
redis.call('HSET', places, place, node)
redis.call('PEXPIRE', places, keep_ms)
return false`)

/** What the nodes of this process have taken for one client. */
interface Client {
  /** By place, the node. */
  readonly places: Map<string, string>
  keptAt: number
}

export class Places {
  readonly #connection: Connection
  readonly #maxOwed: number
  readonly #areAlive: (nodes: readonly string[]) => Promise<readonly boolean[]>
  readonly #clients = new Map<string, Client>()
  // Places that could not be given back, or that may have been taken by a call whose answer was lost.
  readonly #owed = new Map<string, readonly [name: string, place: string]>()
  // Nodes of which Redis may have lost the places.
  readonly #lost = new Set<string>()
  #isTending = false

  constructor(
    connection: Connection,
    areAlive: (nodes: readonly string[]) => Promise<readonly boolean[]>,
    maxOwed: number = MAX_OWED,
  ) {
    this.#maxOwed = maxOwed
    this.#connection = connection
    this.#areAlive = areAlive
  }

  /** @param name of the hash */
  async take(name: string, node: string, place: string, max: number): Promise<boolean> {
    try {
      let nodes = await this.#take(name, node, place, max, [])
      if (nodes) {
        const dead = await this.#deadOf(nodes)
        if (dead.length > 0) nodes = await this.#take(name, node, place, max, dead)
      }
      if (nodes) return false
    } catch (error) {
      this.#owe(name, place)
      throw error
    }
    this.#remember(name, node, place)
    return true
  }

  async free(name: string, place: string): Promise<void> {
    const client = this.#clients.get(name)
    client?.places.delete(place)
    if (client?.places.size === 0) this.#clients.delete(name)
    this.#owe(name, place)
    await this.#free(name, place)
  }

  /** With each beat. What fails is done with one of the next. */
  async tend(): Promise<void> {
    if (this.#isTending) return
    this.#isTending = true
    try {
      await inBatches([...this.#owed.values()], ([name, place]) => this.#free(name, place))
      for (const node of [...this.#lost]) await this.#restore(node)
      const now = performance.now()
      const old = [...this.#clients].filter(([, { keptAt }]) => now - keptAt > KEEP_MS / 2)
      await inBatches(old, ([name, { places }]) => this.#write(name, [...places]))
    } catch {
      // Who watches the store knows by now.
    }
    this.#isTending = false
  }

  /** Redis may have lost what this node has taken: it is said again when the places are tended. */
  lost(node: string): void {
    this.#lost.add(node)
  }

  async #restore(node: string): Promise<void> {
    await inBatches([...this.#clients], ([name, { places }]) =>
      this.#write(
        name,
        [...places].filter(([, owner]) => owner === node),
      ),
    )
    this.#lost.delete(node)
  }

  /** Gives back all places of a node. */
  async end(node: string): Promise<void> {
    this.#lost.delete(node)
    const taken = [...this.#clients].flatMap(([name, { places }]) =>
      [...places].filter(([, owner]) => owner === node).map(([place]) => [name, place] as const),
    )
    await inBatches(taken, ([name, place]) => this.free(name, place))
  }

  /** The nodes that have the places; undefined where it was taken. */
  async #take(
    name: string,
    node: string,
    place: string,
    max: number,
    dead: readonly string[],
  ): Promise<string[] | undefined> {
    const args = [place, node, `${max}`, wholeMs(KEEP_MS), ...dead]
    const reply = await this.#connection.run(PLACE_SCRIPT, [name], args)
    return reply === null ? undefined : listOf(reply).map(textOf)
  }

  async #deadOf(nodes: readonly string[]): Promise<string[]> {
    const distinct = [...new Set(nodes)]
    const areAlive = await this.#areAlive(distinct)
    return distinct.filter((_node, i) => !areAlive[i])
  }

  #owe(name: string, place: string): void {
    if (this.#owed.size >= this.#maxOwed) {
      const [oldest] = this.#owed.keys()
      if (oldest !== undefined) this.#owed.delete(oldest)
    }
    this.#owed.set(`${name} ${place}`, [name, place])
  }

  async #free(name: string, place: string): Promise<void> {
    await this.#connection.send(name, 'HDEL', name, place)
    this.#owed.delete(`${name} ${place}`)
  }

  #remember(name: string, node: string, place: string): void {
    const client = this.#clients.get(name) ?? { places: new Map(), keptAt: 0 }
    this.#clients.set(name, client)
    client.places.set(place, node)
    this.#owed.delete(`${name} ${place}`)
    client.keptAt = performance.now()
  }

  async #write(name: string, places: readonly (readonly [place: string, node: string])[]): Promise<void> {
    const fields = places.flat()
    if (fields.length === 0) return
    await this.#connection.send(name, 'HSET', name, ...fields)
    await this.#connection.send(name, 'PEXPIRE', name, `${KEEP_MS}`)
    const client = this.#clients.get(name)
    if (client) client.keptAt = performance.now()
  }
}

async function inBatches<T>(items: readonly T[], send: (item: T) => Promise<void>): Promise<void> {
  for (let i = 0; i < items.length; i += BATCH) await Promise.all(items.slice(i, i + BATCH).map(send))
}
