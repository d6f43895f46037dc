// The streams of each client over all nodes, shared ones and those with an upstream of their own: each takes a place in the
// store. Absent where clients are not limited. What the store cannot say is let in: the node's own count holds in any case.

import { randomUUID } from 'node:crypto'
import { AdmissionError } from '../errors.ts'
import type { StoreNode } from './nodes/node.ts'

/** A request that has a place of this node's own limits. */
export interface PlacedRequest {
  /** Whose place it has. */
  readonly client: string | undefined
}

/** A place that a request has over all nodes. */
interface Place {
  readonly client: string
  readonly name: string
  /** Fulfilled when the store has answered, or will not. */
  readonly asked: Promise<unknown>
}

export class NodePlaces {
  readonly #node: StoreNode
  readonly #max: number
  readonly #hashOf: (client: string) => string
  readonly #places = new Map<PlacedRequest, Place>()

  /** @param hashOf what stands for a client in the store */
  constructor(node: StoreNode, max: number, hashOf: (client: string) => string) {
    this.#node = node
    this.#max = max
    this.#hashOf = hashOf
  }

  /**
   * Takes a place for a request that has none.
   * @throws AdmissionError where its client has as many as there may be
   */
  async take(request: PlacedRequest): Promise<void> {
    const { client } = request
    if (client === undefined || !this.#node.isUp || this.#places.has(request)) return
    const { store, name } = this.#node
    const place = { client: this.#hashOf(client), name: randomUUID() }
    const taking = store.takePlace(place.client, name, place.name, this.#max)
    this.#places.set(request, { ...place, asked: taking.catch(() => {}) })
    if (await this.#node.call(taking).catch(() => true)) return
    this.#places.delete(request)
    throw new AdmissionError('ERR_SSE_PROXY_CLIENT_LIMIT')
  }

  free(request: PlacedRequest): void {
    const place = this.#places.get(request)
    if (!place) return
    this.#places.delete(request)
    const { client, name, asked } = place
    // A place takes the store several steps: one that is given back in between would be taken after that, for good.
    asked.then(() => this.#node.store.freePlace(client, name)).catch((error) => this.#node.suspect(error))
  }
}
