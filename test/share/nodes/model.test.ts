// The protocol of the nodes as a model: thousands of runs with a time of their own, each with its own faults. What must hold
// is in `simulate`. NODES_RUNS sets how many, NODES_SEED where to begin.
import { test } from 'node:test'
import { simulate } from './simulation.ts'
import { worlds } from './worlds.ts'

const runs = Number(process.env.NODES_RUNS ?? 2)
const firstSeed = Number(process.env.NODES_SEED ?? 1)

for (const [what, faults] of Object.entries(worlds)) {
  test(`clients get each event once, in order, or are told, and nothing is left, when ${what}`, async () => {
    for (let seed = firstSeed; seed < firstSeed + runs; seed++) await simulate(seed, faults)
  })
}

const all = 'everything goes wrong'
const allWithoutIds = 'everything goes wrong and the upstream has no ids'

/** What runs have found. */
const found: [symptom: string, world: keyof typeof worlds, seed: number][] = [
  ['after two failovers clients got again what they had, and missed in silence what came then', allWithoutIds, 1059],
  ['a gap that a failover had undone was not told to a node that had not heard of it yet', allWithoutIds, 1145],
  ['what waited to be added came after what another owner had brought later', allWithoutIds, 38],
  [
    'clients of a node that began while it did not reach the store were let go once it did',
    'calls are lost, late and without an answer',
    2,
  ],
  ['an owner whose clients had left while the store was away ended the stream for those of other nodes', all, 6],
  ['a node that was drained while the store was away ended the stream for clients of other nodes', allWithoutIds, 12],
  ['a node that had missed where a new owner began got again what it had', 'the store loses more than it keeps', 9],
  [
    'an addition that was larger than the log, and was made again, came again to clients that had it',
    'everything goes wrong and little is kept',
    2046,
  ],
  [
    'an owner that had to ask an upstream without ids anew in the middle told nobody what was missing',
    'everything goes wrong, little is kept, and the upstream has no ids',
    53,
  ],
  ['a node that came first after the store had lost everything ended the stream for clients of others', all, 41],
]

for (const [symptom, world, seed] of found) {
  test(`${symptom} (seed ${seed})`, async () => {
    await simulate(seed, worlds[world])
  })
}
