// The worlds that the model runs in: each has faults of its own.
import type { Requests } from './runs.ts'
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

const posts = { ...none, hasIds: false, requests: ['POST', 'join', 'join'], keepEndedMs: 0, lingerMs: 400 } as const
const gets = { ...none, requests: ['GET'], busy: 'join', keepEndedMs: 1500, lingerMs: 400 } as const
const refusing = { ...posts, busy: 'refuse' } as const
const lasting = { ...refusing, lingerMs: Number.POSITIVE_INFINITY } as const
const replacing = { ...posts, busy: 'replace' } as const
const joining = { ...posts, busy: 'join' } as const
const away = ['outage', 'partition', 'leave'] as const
const { calls, doorbells, events } = everything

/** Worlds in which streams begin and end. */
export const requestWorlds = {
  'POSTs are refused while one runs': { ...refusing, stops: true },
  'POSTs are refused while one runs, doorbells are lost, and clients come and go': {
    ...refusing,
    doorbells: 0.2,
    events: ['leave'],
  },
  'POSTs outlive their readers': { ...lasting, doorbells: 0.1, events: ['leave'], stops: true },
  'POSTs are refused and nodes are killed': { ...refusing, events: ['kill'] },
  'POSTs outlive their readers and nodes are killed': { ...lasting, events: ['kill'] },
  'POSTs are refused and nodes are drained, and sleep': { ...refusing, events: ['drain', 'sleep', 'leave'] },
  'POSTs are refused and calls are lost': { ...refusing, calls: 0.03, doorbells: 0.1 },
  'POSTs are refused and the store is away': { ...refusing, events: away },
  'POSTs are refused and everything goes wrong': { ...lasting, calls, doorbells, events, stops: true },
  'POSTs replace each other': { ...replacing, doorbells: 0.1, events: ['leave'] },
  'POSTs replace each other and nodes are killed': { ...replacing, events: ['kill', 'sleep'] },
  'POSTs replace each other and everything goes wrong': { ...replacing, calls, doorbells, events, stops: true },
  'POSTs join each other': { ...joining, doorbells: 0.1, events: ['leave'] },
  'POSTs join each other and everything goes wrong': { ...joining, calls, doorbells, events, stops: true },
  'POSTs that have ended are kept': { ...refusing, keepEndedMs: 1500, doorbells: 0.1, events: ['leave', 'kill'] },
  'POSTs that have ended are kept and everything goes wrong': {
    ...refusing,
    keepEndedMs: 1500,
    calls,
    doorbells,
    events,
  },
  'GETs that have ended are kept': { ...gets, doorbells: 0.1, events: ['leave'] },
  'GETs that have ended are kept and nodes are killed': { ...gets, events: ['kill', 'drain', 'leave'] },
  'GETs that have ended are kept and the store is away': { ...gets, events: away },
  'GETs that have ended are kept and the store loses what it has': { ...gets, events: ['restart', 'failover'] },
  'GETs that have ended are kept and everything goes wrong': { ...gets, calls, doorbells, events, stops: true },
  'GETs are kept, have no ids, and everything goes wrong': { ...gets, hasIds: false, calls, doorbells, events },
  'GETs that have ended are not kept and everything goes wrong': { ...gets, keepEndedMs: 0, calls, doorbells, events },
  'new clients are refused while the store is away': { ...gets, onDown: 'refuse', events: away },
  'POSTs are refused while the store is away': { ...refusing, onDown: 'refuse', events: away },
  'new clients are refused while the store is away, and everything goes wrong': {
    ...{ ...gets, onDown: 'refuse', calls, doorbells, events, stops: true },
  },
} as const satisfies Record<string, Requests>
