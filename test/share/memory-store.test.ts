import { memoryStore } from '../../src/share/memory-store.ts'
import { storeTests } from '../../src/store-tests.ts'

storeTests('the memory store', () => {
  const store = memoryStore()
  return { stores: [store, store] }
})
