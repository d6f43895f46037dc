// The tests of a store, registered for stores that break one rule each: what fails is in the report.
import { describe } from 'node:test'
import { storeTests } from '../../../src/store-tests.ts'
import { brokenStores } from '../broken-stores.ts'

describe('broken stores', { concurrency: true }, () => {
  for (const { name, create } of brokenStores) {
    storeTests(name, () => {
      const store = create()
      return { stores: [store, store] }
    })
  }
})
