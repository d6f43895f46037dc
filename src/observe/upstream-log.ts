// Log lines about failing upstreams, and bodies that are gone: the first failure at once, then at most one line a minute for each upstream, because one
// that is down fails every request. A line has the upstream, the system error, and what to check.

import type { SseProxyError } from '../errors.ts'
import type { HpmOptions } from '../hpm.ts'
import { codeOf, systemError } from '../system-error.ts'

// The least time between two lines about an upstream.
const QUIET_MS = 60_000
// A router can name any number of upstreams; past this many the oldest entry goes.
const MAX_UPSTREAMS = 1000

type Logger = NonNullable<HpmOptions['logger']>

/** The recent failures of one upstream. */
interface Trouble {
  /** When the latest line was written, as `performance.now()`. Kept over recoveries, so that a flapping upstream fills no log. */
  toldAt: number
  /** Since its last response. */
  failures: number
  /** Whether a line said that it fails. Only then is its recovery worth a line. */
  isTold: boolean
}

/** Writes to the app's logger. */
export class UpstreamLog {
  readonly #logger: Logger
  readonly #name: string
  // By upstream, the oldest entry first. Bounded by MAX_UPSTREAMS.
  readonly #troubles = new Map<string, Trouble>()

  constructor(logger: Logger, name: string) {
    this.#logger = logger
    this.#name = name
  }

  /** A request failed because of this upstream. */
  failed(upstream: string, error: SseProxyError, now: number = performance.now()): void {
    const trouble = this.#troubles.get(upstream) ?? this.#remember(upstream)
    trouble.failures++
    if (now - trouble.toldAt < QUIET_MS) return
    trouble.toldAt = now
    trouble.isTold = true
    const often = trouble.failures > 1 ? ` (${trouble.failures} failures so far)` : ''
    this.#tell('error', `${upstream}: ${withoutPeriod(error.message)}${detail(error)}. ${adviceFor(error)}${often}`)
  }

  /** An upstream has responded. */
  answered(upstream: string): void {
    // The usual case, since this runs for every request: no upstream fails.
    const trouble = this.#troubles.size === 0 ? undefined : this.#troubles.get(upstream)
    if (!trouble || trouble.failures === 0) return
    if (trouble.isTold) this.#tell('info', `${upstream} answers again, after ${count(trouble.failures)}`)
    trouble.failures = 0
    trouble.isTold = false
  }

  #remember(upstream: string): Trouble {
    const [oldest] = this.#troubles.keys()
    if (oldest !== undefined && this.#troubles.size >= MAX_UPSTREAMS) this.#troubles.delete(oldest)
    const trouble = { toldAt: Number.NEGATIVE_INFINITY, failures: 0, isTold: false }
    this.#troubles.set(upstream, trouble)
    return trouble
  }

  #tell(level: 'error' | 'info', message: string): void {
    this.#logger[level](`[${this.#name}] ${message}`)
  }
}

function count(failures: number): string {
  return failures === 1 ? '1 failure' : `${failures} failures`
}

function withoutPeriod(text: string): string {
  return text.replace(/\.$/, '')
}

function detail(error: SseProxyError): string {
  const text = systemError(error.cause)
  return text === '' ? '' : ` (${text})`
}

function adviceFor({ code, cause }: SseProxyError): string {
  const system = codeOf(cause)
  for (const [pattern, advice] of ADVICE) {
    if (pattern.test(system) || pattern.test(code)) return advice
  }
  return 'Does it speak HTTP?'
}

/** What to check, by the system's error code or the package's own; the first match counts. */
const ADVICE: readonly (readonly [RegExp, string])[] = [
  [/^ECONNREFUSED$/, 'Does the backend run, and does it listen on this port and address?'],
  [/^(ENOTFOUND|EAI_AGAIN)$/, 'Is the host name right, and does it resolve on this machine?'],
  [/^(EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|EADDRNOTAVAIL)$/, 'Is there a way to this address, and no firewall on it?'],
  [/^(ENOENT|EACCES)$/, 'Is there a socket at this path, and may this process use it?'],
  [
    /CERT|SELF_SIGNED|UNABLE_TO_/,
    "Give the certificate's issuer as ssl: { ca }, or secure: false where it need not be verified.",
  ],
  [/^(EPROTO|ERR_SSL)/, 'Does the backend speak TLS? Where it does not, its URL begins with http:'],
  [/^HPE_/, 'Does the backend speak HTTP/1.1 without TLS? Where it speaks TLS, its URL begins with https:'],
  [
    /^(ECONNRESET|EPIPE)$|_UPSTREAM_LOST$/,
    'Did the backend restart, or close the connection before its answer was complete?',
  ],
  [
    /_BODY_CONSUMED$/,
    'Mount the proxy before what reads the body, or leave what has been parsed in req.body (Koa: ctx.req.body = ctx.request.body; Fastify: request.raw.body = request.body).',
  ],
  [/^ERR_AGENT_IN_USE$/, 'Each open stream keeps one: give the agent maxSockets: Infinity, or leave it out.'],
  [/_INCOMPLETE$/, 'Its answer ended cleanly, but no event of it was what isEnd takes for the end.'],
  [/_CONNECT_TIMEOUT$/, 'Is there a firewall on the way? timeouts.connectMs bounds this wait.'],
  [/_RESPONSE_TIMEOUT$/, 'Is the backend slow? timeouts.responseMs bounds this wait.'],
  [/_IDLE$/, 'Is it silent by design? timeouts.idleMs, firstEventMs and eventMs bound the silence.'],
]
