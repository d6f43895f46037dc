// The option `limits`: how many streams there may be, and how much of anything is held.

import type { AdmissionPolicy } from '../admission.ts'
import { asked } from '../app-callback.ts'
import { clientIp, subnetOf } from '../client-address.ts'
import { ConfigError } from '../errors.ts'
import { callable, group, integer, integers, MAX_MS } from './check.ts'
import type { LimitOptions } from './options.ts'

/** See the option `limits`. The bounds in bytes are never 0. */
export interface ResolvedLimits extends AdmissionPolicy {
  readonly eventBytes: number
  readonly bufferBytes: number
  readonly bodyBytes: number
}

const MIB = 1_048_576
const DEFAULTS = { eventBytes: MIB, bufferBytes: MIB, bodyBytes: MIB } as const
const KEYS = ['streams', 'streamsPerClient', 'clientKey', 'ipv6Subnet', ...Object.keys(DEFAULTS)]
// Providers give a household or a machine a /64.
const IPV6_SUBNET = 64

export function resolveLimits(value: LimitOptions): ResolvedLimits {
  const given = group('limits', value, KEYS)
  const count = (key: 'streams' | 'streamsPerClient') =>
    given[key] === undefined ? 0 : integer(`limits.${key}`, given[key], 1, MAX_MS)
  return Object.freeze({
    streams: count('streams'),
    streamsPerClient: count('streamsPerClient'),
    clientKey: resolveClientKey(given),
    ...integers('limits', given, DEFAULTS, 1, Number.MAX_SAFE_INTEGER),
  })
}

/** The app's function, or one that takes the client's IP address or network. */
function resolveClientKey({ clientKey, ipv6Subnet }: LimitOptions): AdmissionPolicy['clientKey'] {
  const bits = integer('limits.ipv6Subnet', ipv6Subnet ?? IPV6_SUBNET, 1, 128)
  if (clientKey === undefined) return (req) => subnetOf(clientIp(req), bits)
  if (ipv6Subnet !== undefined) {
    throw new ConfigError('limits.ipv6Subnet: cannot be used with limits.clientKey, which tells clients apart itself')
  }
  return asked('limits.clientKey', callable('limits.clientKey', clientKey))
}
