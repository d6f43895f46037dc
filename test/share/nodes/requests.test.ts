// Streams that begin and end as a model: what clients of all nodes are told of their run, and nothing of another one; what has
// a body is sent once. What must hold is in `simulateRuns`. NODES_RUNS sets how many, NODES_SEED where to begin.
import { test } from 'node:test'
import { simulateRuns } from './runs.ts'
import { requestWorlds } from './worlds.ts'

const runs = Number(process.env.NODES_RUNS ?? 2)
const firstSeed = Number(process.env.NODES_SEED ?? 1)

for (const [what, requests] of Object.entries(requestWorlds)) {
  test(`clients get their run, and how it ends, when ${what}`, async () => {
    for (let seed = firstSeed; seed < firstSeed + runs; seed++) await simulateRuns(seed, requests)
  })
}

/** What runs have found. */
const found: [symptom: string, world: keyof typeof requestWorlds, seed: number][] = [
  ['a POST was refused for the run of a node that had died', 'POSTs are refused and nodes are killed', 24],
  [
    'clients whose stream was lost were told that the app had replaced it',
    'POSTs are refused and nodes are drained, and sleep',
    14,
  ],
  [
    'a node that had told its own clients of the end while it did not reach the store never told the others',
    'POSTs are refused and calls are lost',
    14,
  ],
  [
    'clients of a run that the store had lost got events of the one before',
    'POSTs replace each other and everything goes wrong',
    34,
  ],
  [
    'clients that had begun while the store was away were told the end of a run that was kept in it',
    'GETs that have ended are kept and the store is away',
    1,
  ],
  [
    'clients that a node searched for in a run until its end were not told of what they had missed',
    'GETs that have ended are not kept and everything goes wrong',
    61,
  ],
  [
    'clients of a POST that was replaced before its answer got the answer, and then events of the other one',
    'POSTs replace each other and everything goes wrong',
    363,
  ],
  [
    'the client of a POST that was sent while the store was away got events of the run that had been read before',
    'POSTs replace each other and everything goes wrong',
    1018,
  ],
  [
    'a POST was sent again by a node that had not reached the store for a moment',
    'POSTs are refused and everything goes wrong',
    3048,
  ],
  [
    'who was to begin a stream when the store went away was let into an older one that was kept',
    'POSTs are refused while the store is away',
    3179,
  ],
  [
    'clients of a run that the store had lost got what went on behind the end of an older one',
    'POSTs replace each other and everything goes wrong',
    196,
  ],
  [
    'clients that had begun while the store was away were told the end of another run, since their node had tried to add theirs',
    'GETs that have ended are kept and everything goes wrong',
    3036,
  ],
  [
    'who came just before the end of a stream that is not kept was told that it was lost',
    'POSTs are refused while one runs',
    1324,
  ],
  [
    'clients waited for a node that did not know any more that it was to go on',
    'GETs that have ended are kept and the store loses what it has',
    256,
  ],
  [
    'a run that had ended while the store was away was kept without its events',
    'POSTs that have ended are kept and everything goes wrong',
    99,
  ],
  [
    'the client of a run that was added at once, and nobody heard of it, was told that there was none',
    'POSTs are refused and calls are lost',
    156,
  ],
  [
    'events that an upstream had brought before the store was back were lost to their client',
    'POSTs join each other and everything goes wrong',
    134,
  ],
]

for (const [symptom, world, seed] of found) {
  test(`${symptom} (seed ${seed})`, async () => {
    await simulateRuns(seed, requestWorlds[world])
  })
}
