// From the policies of the options to the live pool of one proxy: members with their health, a balance, and what ties
// clients to members.

import { clientIp } from '../../client-address.ts'
import type { StickyPolicy } from '../../options/resolve-sticky.ts'
import type { PoolPolicy } from '../../options/resolve-upstreams.ts'
import { type Balance, custom, failover, leastStreams, random, roundRobin } from './balance.ts'
import { Member, Pool, type Stickiness } from './pool.ts'
import { cookieOf, KeyMemory, type ReadKey, StickyCookie } from './sticky.ts'

/** The pool counts and judges its members for as long as the proxy lives. */
export function createPool({ upstreams, balance, sticky, health }: PoolPolicy): Pool {
  const members = upstreams.map((upstream) => new Member(upstream, health))
  // An order, or the app, says each time who is next.
  const mayStay = balance !== 'failover' && typeof balance !== 'function'
  return new Pool(members, balanceOf(balance), sticky && stickinessOf(sticky), mayStay)
}

function balanceOf(policy: PoolPolicy['balance']): Balance<Member> {
  if (typeof policy === 'function') return custom(policy)
  return BALANCES[policy]()
}

// Each call makes one with a state of its own.
const BALANCES = {
  'least-streams': leastStreams<Member>,
  'round-robin': roundRobin<Member>,
  random: random<Member>,
  failover: failover<Member>,
}

function stickinessOf(policy: StickyPolicy): Stickiness {
  if (policy.by === 'issued-cookie') {
    const cookie = new StickyCookie(policy.name, policy.secret, policy.ttlMs)
    return { readKey: undefined, memory: undefined, cookie }
  }
  const memory = policy.ttlMs > 0 ? new KeyMemory(policy.ttlMs) : undefined
  return { readKey: readKeyOf(policy), memory, cookie: undefined }
}

/** An empty key, or none, leaves the choice to the balance. */
function readKeyOf(policy: Exclude<StickyPolicy, { by: 'issued-cookie' }>): ReadKey {
  if (policy.by === 'ip') return clientIp
  if (policy.by === 'key') return policy.key
  const { by, name } = policy
  if (by === 'cookie') return (req) => cookieOf(req, name)
  if (by === 'query') return (req) => new URLSearchParams(req.url?.split('?')[1]).get(name) ?? undefined
  return (req) => String(req.headers[name.toLowerCase()] ?? '')
}
