// Every way in which a stream can fail, by code. The class only groups; programs switch on `code`. The text of a
// message is fixed, because it may be sent to a client: hosts, ports and system errors stay in `cause`.

/** What went wrong, for programs. The guide on troubleshooting has the cause and the cure of each. */
export type SseProxyErrorCode = 'ERR_SSE_PROXY_OPTION' | AdmissionErrorCode | UpstreamErrorCode | StreamErrorCode

/** The base of every error of this package. */
export class SseProxyError extends Error {
  override readonly name: string = 'SseProxyError'
  /** For programs: what to switch on. */
  readonly code: SseProxyErrorCode
  /** The HTTP status a client gets for it while it has no headers yet. */
  readonly status: number

  constructor(code: SseProxyErrorCode, status: number, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.status = status
  }
}

/** A wrong option: thrown by `sseProxy()` itself, never later. */
export class ConfigError extends TypeError {
  override readonly name: string = 'ConfigError'
  readonly code: SseProxyErrorCode = 'ERR_SSE_PROXY_OPTION'
}

/** The codes of an AdmissionError. */
export type AdmissionErrorCode =
  | 'ERR_SSE_PROXY_FULL'
  | 'ERR_SSE_PROXY_CLIENT_LIMIT'
  | 'ERR_SSE_PROXY_DRAINING'
  | 'ERR_SSE_PROXY_BUSY'
  | 'ERR_SSE_PROXY_NO_STREAM'
  | 'ERR_SSE_PROXY_STORE'

// The texts go to clients.
const REFUSALS: Readonly<Record<AdmissionErrorCode, readonly [status: number, message: string]>> = {
  ERR_SSE_PROXY_FULL: [503, 'There are too many streams open.'],
  ERR_SSE_PROXY_CLIENT_LIMIT: [429, 'This client has too many streams open.'],
  ERR_SSE_PROXY_DRAINING: [503, 'This server is about to stop.'],
  ERR_SSE_PROXY_BUSY: [409, 'Another request has opened this stream.'],
  ERR_SSE_PROXY_NO_STREAM: [404, 'There is no such stream.'],
  ERR_SSE_PROXY_STORE: [503, 'Shared streams cannot be had now.'],
}

/** The request was not let in. */
export class AdmissionError extends SseProxyError {
  override readonly name: string = 'AdmissionError'

  constructor(code: AdmissionErrorCode) {
    const [status, message] = REFUSALS[code]
    super(code, status, message)
  }
}

/** The codes of an UpstreamError. */
export type UpstreamErrorCode =
  | 'ERR_SSE_PROXY_UNREACHABLE'
  | 'ERR_SSE_PROXY_BAD_ANSWER'
  | 'ERR_SSE_PROXY_CONNECT_TIMEOUT'
  | 'ERR_SSE_PROXY_RESPONSE_TIMEOUT'
  | 'ERR_SSE_PROXY_REFUSED'
  | 'ERR_SSE_PROXY_NO_UPSTREAM'
  | 'ERR_SSE_PROXY_BODY_CONSUMED'
  | 'ERR_SSE_PROXY_BODY_TIMEOUT'
  | 'ERR_SSE_PROXY_PATH'
  | 'ERR_SSE_PROXY_NOT_SENT'
  | 'ERR_SSE_PROXY_DEPENDENCY'
  | 'ERR_SSE_PROXY_HOOK'
  | 'ERR_SSE_PROXY_APP'

const UPSTREAM_FAILURES: Readonly<Record<UpstreamErrorCode, readonly [status: number, message: string]>> = {
  ERR_SSE_PROXY_UNREACHABLE: [502, 'The upstream could not be reached.'],
  ERR_SSE_PROXY_BAD_ANSWER: [502, 'The upstream gave an answer that cannot be used.'],
  ERR_SSE_PROXY_CONNECT_TIMEOUT: [504, 'The upstream did not accept the connection in time.'],
  ERR_SSE_PROXY_RESPONSE_TIMEOUT: [504, 'The upstream did not answer in time.'],
  ERR_SSE_PROXY_REFUSED: [503, 'The upstream takes no more requests now.'],
  ERR_SSE_PROXY_NO_UPSTREAM: [503, 'There is no upstream for this request now.'],
  ERR_SSE_PROXY_BODY_CONSUMED: [500, 'The request body was read before it reached the proxy and cannot be sent again.'],
  ERR_SSE_PROXY_BODY_TIMEOUT: [408, 'The request body did not come in time.'],
  ERR_SSE_PROXY_PATH: [400, 'The path of the request leads out of what can be asked for here.'],
  ERR_SSE_PROXY_NOT_SENT: [500, 'The request could not be sent on.'],
  ERR_SSE_PROXY_DEPENDENCY: [502, 'The request could not be passed on.'],
  ERR_SSE_PROXY_HOOK: [502, 'A hook failed.'],
  ERR_SSE_PROXY_APP: [500, 'The request could not be handled.'],
}

/** The upstream gave no answer that could be passed on; the client has no headers yet. */
export class UpstreamError extends SseProxyError {
  override readonly name: string = 'UpstreamError'
  /** The upstream's URL, without credentials, where one had been chosen. */
  readonly upstream: string | undefined
  /** Whether the upstream may have got the request, or a part of it. False only where that is certain. */
  readonly mayHaveArrived: boolean

  constructor(code: UpstreamErrorCode, upstream?: string, cause?: unknown, mayHaveArrived = true) {
    const [status, message] = UPSTREAM_FAILURES[code]
    super(code, code === 'ERR_SSE_PROXY_NOT_SENT' && blamesClient(cause) ? 400 : status, message, cause)
    this.upstream = upstream
    this.mayHaveArrived = mayHaveArrived
  }
}

/** http-proxy-middleware's fixRequestBody destroys a request whose form would pass for another one; HTTP/2 takes no Host but a name. */
function blamesClient(cause: unknown): boolean {
  return (
    cause instanceof Error &&
    'code' in cause &&
    /^(HPM_ERR_INVALID_MULTIPART|ERR_INVALID_HOST)/.test(String(cause.code))
  )
}

/** The codes of a StreamError. */
export type StreamErrorCode =
  | 'ERR_SSE_PROXY_UPSTREAM_LOST'
  | 'ERR_SSE_PROXY_INCOMPLETE'
  | 'ERR_SSE_PROXY_IDLE'
  | 'ERR_SSE_PROXY_EVENT_TOO_LARGE'
  | 'ERR_SSE_PROXY_HOOK'
  | 'ERR_SSE_PROXY_SLOW_CLIENT'
  | 'ERR_SSE_PROXY_TOO_LARGE'

const STREAM_FAILURES: Readonly<Record<StreamErrorCode, string>> = {
  ERR_SSE_PROXY_UPSTREAM_LOST: 'The upstream was lost in the middle of the stream.',
  ERR_SSE_PROXY_INCOMPLETE: 'The upstream ended before the stream was complete.',
  ERR_SSE_PROXY_IDLE: 'The upstream was silent for too long.',
  ERR_SSE_PROXY_EVENT_TOO_LARGE: 'An event was larger than limits.eventBytes while a hook needed it whole.',
  ERR_SSE_PROXY_HOOK: 'A hook failed.',
  ERR_SSE_PROXY_SLOW_CLIENT: 'The client did not read for too long.',
  ERR_SSE_PROXY_TOO_LARGE: 'The stream was too large for one answer.',
}

/** An open stream had to be broken off. */
export class StreamError extends SseProxyError {
  override readonly name: string = 'StreamError'

  constructor(code: StreamErrorCode, cause?: unknown) {
    super(code, 502, STREAM_FAILURES[code], cause)
  }
}

/** Why a stream is over. */
export type CloseReason =
  | 'client-left'
  | 'upstream-ended'
  | 'upstream-lost'
  | 'slow-client'
  | 'drained'
  | 'expired'
  | 'hook-failed'
  | 'closed'

/** Why a stream is over that this breaks off. An event that is too large for the hooks is the upstream's doing. */
export function closeReasonOf({ code }: SseProxyError): CloseReason {
  if (code === 'ERR_SSE_PROXY_SLOW_CLIENT') return 'slow-client'
  return code === 'ERR_SSE_PROXY_HOOK' ? 'hook-failed' : 'upstream-lost'
}

// What counts against an upstream's health, and is written to the log.
const FAULTS_OF_UPSTREAMS: ReadonlySet<SseProxyErrorCode> = new Set<SseProxyErrorCode>([
  'ERR_SSE_PROXY_UNREACHABLE',
  'ERR_SSE_PROXY_BAD_ANSWER',
  'ERR_SSE_PROXY_CONNECT_TIMEOUT',
  'ERR_SSE_PROXY_RESPONSE_TIMEOUT',
  'ERR_SSE_PROXY_UPSTREAM_LOST',
  'ERR_SSE_PROXY_INCOMPLETE',
  'ERR_SSE_PROXY_IDLE',
])

/** Routing, rewriting, paths, bodies and hooks are the app's and the client's affair. */
export function isUpstreamsFault({ code }: SseProxyError): boolean {
  return FAULTS_OF_UPSTREAMS.has(code)
}
