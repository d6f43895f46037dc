// The worlds that the model runs in: each has faults of its own.
import type { Faults } from './simulation.ts'

const none: Faults = { calls: 0, doorbells: 0, events: [], hasIds: true }
const everything: Faults = {
  ...none,
  calls: 0.02,
  doorbells: 0.1,
  events: ['leave', 'kill', 'drain', 'sleep', 'partition', 'outage', 'restart', 'failover'],
}
const without = { ...none, hasIds: false }
const brief = { ...none, keptEvents: 8 }

export const worlds = {
  'nothing goes wrong': none,
  'doorbells are lost, late and doubled': { ...none, doorbells: 0.2 },
  'calls are lost, late and without an answer': { ...none, calls: 0.03 },
  'clients come and go': { ...none, events: ['leave'] },
  'nodes are killed': { ...none, events: ['kill'] },
  'nodes are drained': { ...none, events: ['drain'] },
  'nodes sleep': { ...none, events: ['sleep'] },
  'nodes are cut off from the store': { ...none, events: ['partition'] },
  'the store is away': { ...none, events: ['outage'] },
  'the store loses everything': { ...none, events: ['restart'] },
  'the store loses its latest': { ...none, events: ['failover'] },
  'nodes sleep while what they follow is dropped': { ...brief, events: ['sleep'] },
  'nodes are cut off while what they follow is dropped': { ...brief, events: ['partition', 'leave'] },
  'the store loses more than it keeps': { ...brief, events: ['failover', 'kill'] },
  'calls are lost and the upstream has no ids': { ...without, calls: 0.03, doorbells: 0.1 },
  'nodes are killed and drained and the upstream has no ids': { ...without, events: ['kill', 'drain', 'leave'] },
  'nodes sleep and are cut off and the upstream has no ids': { ...without, events: ['sleep', 'partition'] },
  'the store fails and the upstream has no ids': { ...without, events: ['outage', 'restart', 'failover'] },
  'everything goes wrong': everything,
  'everything goes wrong and the upstream has no ids': { ...everything, hasIds: false },
  'everything goes wrong and little is kept': { ...everything, keptEvents: 8 },
  'everything goes wrong, little is kept, and the upstream has no ids': { ...everything, keptEvents: 8, hasIds: false },
} as const satisfies Record<string, Faults>
