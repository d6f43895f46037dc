// Active health checks: a request to every upstream at each interval, so that one that fails is found before a client asks it,
// and one that has recovered is used again before its ejection is over.

import http from 'node:http'
import https from 'node:https'
import type { HpmOptions } from '../../hpm.ts'
import type { ProbePolicy } from '../../options/resolve-health.ts'
import { Watchdog } from '../../watchdog.ts'
import { isSecure } from '../target.ts'
import type { Member } from './pool.ts'

/** How all upstreams of a proxy are probed. */
export interface ProbeContext {
  readonly policy: ProbePolicy
  readonly hpm: HpmOptions
  readonly onEjected: (member: Member) => void
  /** The agent of requests to an upstream, where that may speak HTTP/2 only. Without it each probe has a connection of its own. */
  readonly agentFor?: (secure: boolean, member: Member) => http.Agent
}

/** Probes the upstreams of one proxy, each for itself. */
export class Probes {
  readonly #context: ProbeContext
  // What stops the probing of each.
  readonly #running = new Map<Member, () => void>()

  constructor(context: ProbeContext) {
    this.#context = context
  }

  /** Probes these from now on, and no others. */
  watch(members: readonly Member[]): void {
    for (const [member, stop] of this.#running) {
      if (members.includes(member)) continue
      stop()
      this.#running.delete(member)
    }
    for (const member of members) {
      if (!this.#running.has(member)) this.#running.set(member, startProbing(member, this.#context))
    }
  }
}

/** Begins at once; returns what stops it, and the probe that is under way. */
function startProbing(member: Member, context: ProbeContext): () => void {
  const { policy, onEjected } = context
  const stopped = new AbortController()
  // Set while a probe waits for its answer.
  let busy = false
  const probe = async () => {
    // A probe that takes longer than the interval is not joined by a second one.
    if (busy) return
    busy = true
    const passed = await answers(member, context, stopped.signal)
    if (!stopped.signal.aborted && member.health.probed(passed, policy, performance.now())) onEjected(member)
    busy = false
  }
  void probe()
  const timer = setInterval(probe, policy.intervalMs).unref()
  return () => {
    clearInterval(timer)
    stopped.abort()
  }
}

/**
 * Whether there was an answer below 400 in time, on a connection of its own: a pooled one would say less of the upstream. Over
 * HTTP/2 that is the one of all requests, which a PING watches.
 */
function answers(member: Member, { policy, hpm, agentFor }: ProbeContext, signal: AbortSignal): Promise<boolean> {
  const { target, headers } = member
  const { path, timeoutMs } = policy
  const secure = isSecure(target)
  let watchdog: Watchdog | undefined
  const outcome = new Promise<boolean>((resolve) => {
    const request = (secure ? https : http).request(
      {
        ...addressOf(target),
        path,
        signal,
        agent: agentFor?.(secure, member) ?? false,
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
