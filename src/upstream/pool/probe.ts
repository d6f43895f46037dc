// Active health checks: a request to every upstream at each interval, so that one that fails is found before a client asks it,
// and one that has recovered is used again before its ejection is over.

import http from 'node:http'
import https from 'node:https'
import type { HpmOptions } from '../../hpm.ts'
import type { ProbePolicy } from '../../options/resolve-health.ts'
import { Watchdog } from '../../watchdog.ts'
import { isSecure } from '../target.ts'
import type { Member } from './pool.ts'

/** Starts probing; returns what stops it. */
export function startProbes(
  members: readonly Member[],
  policy: ProbePolicy,
  hpm: HpmOptions,
  onEjected: (member: Member) => void,
): () => void {
  const timers = members.map((member) => {
    // Set while a probe waits for its answer.
    let busy = false
    const probe = async () => {
      // A probe that takes longer than the interval is not joined by a second one.
      if (busy) return
      busy = true
      if (member.health.probed(await answers(member, policy, hpm), policy, performance.now())) onEjected(member)
      busy = false
    }
    void probe()
    return setInterval(probe, policy.intervalMs).unref()
  })
  return () => {
    for (const timer of timers) clearInterval(timer)
  }
}

/** Whether there was an answer below 400 in time, on a connection of its own: a pooled one would say less of the upstream. */
function answers({ target, headers }: Member, { path, timeoutMs }: ProbePolicy, hpm: HpmOptions): Promise<boolean> {
  const secure = isSecure(target)
  let watchdog: Watchdog | undefined
  const outcome = new Promise<boolean>((resolve) => {
    const request = (secure ? https : http).request(
      {
        ...addressOf(target),
        path,
        agent: false,
        headers: { accept: '*/*', ...headers, connection: 'close' },
        ...(secure && { ...hpm.ssl, rejectUnauthorized: hpm.secure !== false }),
      },
      (response) => {
        response.destroy()
        resolve((response.statusCode ?? 500) < 400)
      },
    )
    request.on('error', () => resolve(false))
    request.end()
    watchdog = new Watchdog(timeoutMs, () => request.destroy(new Error('no answer in time')))
  })
  return outcome.catch(() => false).finally(() => watchdog?.stop())
}

/** Where a target listens, as options of `http.request`. */
function addressOf(target: Member['target']): http.RequestOptions {
  if (typeof target !== 'string' && !(target instanceof URL)) {
    const { pathname: _, host, hostname, port, protocol: __, ...rest } = target
    return { ...rest, host: hostname ?? host?.replace(/:\d+$/, '') ?? null, port: port ?? null }
  }
  const { hostname, port } = new URL(target)
  return { host: hostname.replace(/^\[|\]$/g, ''), port: port || null }
}
