// Clients and upstreams that both do whatever a peer can do, at once and in every setup: nothing escapes that would end
// the process, nobody gets what is another's, and nothing is left. For longer: test/soak/hostile.ts.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hostsByProtocol } from '../support/front.ts'
import { hostileRound, setups } from '../support/hostile-rounds.ts'
import { watchLeftovers } from '../support/leftovers.ts'

for (const host of hostsByProtocol) {
  for (const [setup, options] of Object.entries(setups)) {
    test(`hostile clients before hostile upstreams leave nothing and get nothing of others: ${setup} (${host})`, async (t) => {
      const leftovers = watchLeftovers(t)

      const foreign = await hostileRound({ options, host, seed: 20_260_103, visits: 40, atOnce: 20 })

      assert.deepEqual(foreign, [])
      await leftovers.assertNone()
    })
  }
}
