// What a request may do with the shared stream of its key, as its method and the options `share.open`, `join`, `stop` and
// `busy` say. Pure decisions.

import type { ResolvedShare } from '../options/resolve-share.ts'

/** What a request is there for; `unshared` is one that an upstream of its own serves. */
export type ShareRole = 'open' | 'join' | 'stop' | 'unshared'

/** HTTP/2 lets a method through in any case, and Node sends all of them to the upstream in upper case. */
export function roleOf(method: string | undefined, share: Pick<ResolvedShare, 'open' | 'join' | 'stop'>): ShareRole {
  const name = (method ?? 'GET').toUpperCase()
  if (share.open.includes(name)) return 'open'
  if (share.join.includes(name)) return 'join'
  return share.stop.includes(name) ? 'stop' : 'unshared'
}

/** Whether two requests of one key may want different things, since they may have a body. */
export function mayHaveBody(method: string | undefined): boolean {
  return (method ?? 'GET').toUpperCase() !== 'GET'
}

/** What an opening request gets while a stream of its key is open: one without a body follows that. */
export function whenBusy(method: string | undefined, { busy }: Pick<ResolvedShare, 'busy'>): ResolvedShare['busy'] {
  return mayHaveBody(method) ? busy : 'join'
}

/**
 * Whether a stream goes on for its own sake: the same cannot be asked for again, or the app wants all of it. Then it is
 * not given up before it is open, and a drain waits for its end.
 */
export function outlivesReaders(method: string | undefined, { lingerMs }: Pick<ResolvedShare, 'lingerMs'>): boolean {
  return lingerMs > 0 && (mayHaveBody(method) || lingerMs === Number.POSITIVE_INFINITY)
}
