// The entry point `sse-proxy-middleware/store-tests`: what a store for `share.store` has to keep to, as tests for node:test.
// It asks for what the protocol of the nodes relies on, and for nothing else.

import { after, before, describe, test } from 'node:test'
import type { ShareStore } from './share-store.ts'
import { followerTests } from './store-tests/followers.ts'
import { logTests } from './store-tests/log.ts'
import { nodeTests } from './store-tests/nodes.ts'
import { ownershipTests } from './store-tests/ownership.ts'
import { type Check, untilUp } from './store-tests/stores.ts'

/** What is tested. */
export interface StoreUnderTest {
  /** The stores of two nodes on one engine, each with connections of its own; one store twice where there is but one process. */
  readonly stores: readonly [ShareStore, ShareStore]
  /** Gives back what the test has taken. */
  close?(): void | Promise<void>
}

/**
 * Registers the tests of a store under this name. Names of keys, nodes and places are new ones for each run, so that what
 * an engine holds already does not matter.
 */
export function storeTests(name: string, create: () => StoreUnderTest | Promise<StoreUnderTest>): void {
  describe(name, () => {
    let given: StoreUnderTest
    let one: ShareStore
    let two: ShareStore
    const unwatched: (() => void)[] = []

    before(async () => {
      given = await create()
      ;[one, two] = given.stores
      for (const store of new Set(given.stores)) unwatched.push(await untilUp(store))
    })

    after(async () => {
      for (const unwatch of unwatched) unwatch()
      await given.close?.()
    })

    const check: Check = (name, run) => {
      test(name, () => run({ one, two }))
    }
    ownershipTests(check)
    logTests(check)
    followerTests(check)
    nodeTests(check)
  })
}
