// What in a request may tell one caller from another, where the app has not said who shares. Browsers and the proxies
// on the way send a good deal that does not; whatever is not known to be of that kind keeps clients apart.

import type { IncomingMessage } from 'node:http'
import { TLSSocket } from 'node:tls'
import { endToEndHeaders, isHopByHop } from '../end-to-end.ts'

// How a client speaks, where it stands, and the trace it belongs to. An upstream whose answer depends on one of these
// says so with Vary. Host is in the key already. What proxies say of the host that was asked (X-Forwarded-Host) is not
// here, since it may name a tenant.
const HARMLESS = new Set([
  'accept',
  'accept-charset',
  'accept-encoding',
  'accept-language',
  'b3',
  'cache-control',
  'cdn-loop',
  'cf-connecting-ip',
  'cf-connecting-ipv6',
  'cf-ew-via',
  'cf-ipcountry',
  'cf-ray',
  'cf-visitor',
  'client-ip',
  'device-memory',
  'dnt',
  'downlink',
  'dpr',
  'ect',
  'expect',
  'fastly-client-ip',
  'fastly-ff',
  'fly-client-ip',
  'fly-request-id',
  'host',
  'last-event-id',
  'origin',
  'pragma',
  'priority',
  'purpose',
  'referer',
  'rtt',
  'save-data',
  'sentry-trace',
  'traceparent',
  'tracestate',
  'true-client-ip',
  'uber-trace-id',
  'upgrade-insecure-requests',
  'user-agent',
  'via',
  'viewport-width',
  'width',
  'x-amz-cf-id',
  'x-amzn-trace-id',
  'x-arr-log-id',
  'x-azure-clientip',
  'x-azure-ref',
  'x-azure-requestchain',
  'x-azure-socketip',
  'x-client-ip',
  'x-client-port',
  'x-cloud-trace-context',
  'x-cluster-client-ip',
  'x-correlation-id',
  'x-envoy-attempt-count',
  'x-envoy-expected-rq-timeout-ms',
  'x-envoy-external-address',
  'x-forwarded-for',
  'x-original-forwarded-for',
  'x-queue-start',
  'x-real-ip',
  'x-request-id',
  'x-request-start',
  'x-vercel-id',
])
const HARMLESS_FAMILIES = /^(?:sec-(?:ch|fetch)-|sec-(?:gpc|purpose)$|cloudfront-(?:viewer|is)-|x-b3-|x-datadog-)/

// Headers that carry a credential, or name a person or a session, are called by one of these words everywhere.
const CALLER_PARTS =
  /auth|token|session|credential|secret|passw|api[-_]?key|client[-_]?id|jwt|assertion|csrf|xsrf|signature|principal|identity|account|cert|cookie/
const CALLER_WORDS =
  /(?:^|[-_])(?:user\w*|uid|sid|login|e?mail|from|sso|saml|oidc|dpop|consumer|customer|member|visitor|guest|device|key|nonce|dn|mtls)(?:$|[-_])/

/** Whether a request says who sends it, in a way that a key cannot be trusted to hold: it is nobody else's. */
export function namesCaller(req: IncomingMessage): boolean {
  return headerNames(req).some(isCallerHeader) || hasClientCertificate(req)
}

/** Whether its answer may be meant for one user. */
export function carriesCredentials(req: IncomingMessage): boolean {
  return headerNames(req).some((name) => isSharedCredential(name)) || namesCaller(req)
}

/** The headers in which two clients of one stream must not differ: as they are sent, and as they came. */
export function tellingHeaders(req: IncomingMessage): unknown[] {
  const { rawHeaders } = req
  const sent = Object.entries(endToEndHeaders(req))
  // A middleware may have checked a credential, and removed it.
  const came = rawHeaders.flatMap((name, i) => (i % 2 === 0 ? [[name.toLowerCase(), rawHeaders[i + 1]] as const] : []))
  return [telling(sent), telling(came)]
}

type Value = string | string[] | undefined

function telling(headers: readonly (readonly [name: string, value: Value])[]): unknown[] {
  return headers
    .filter(([name]) => !isHarmless(name))
    .map(([name, value]) => [name, name === 'forwarded' ? hostsOf(value) : value])
    .sort(([one], [other]) => (String(one) < String(other) ? -1 : Number(one !== other)))
}

/** RFC 7239: of what a proxy says of its client, the host that was asked may name a tenant. */
function hostsOf(value: Value): unknown {
  return String(value).match(/\bhost\s*=\s*("[^"]*"|[^;,]*)/gi)
}

/** As they are now and as they came. */
function headerNames({ headers, rawHeaders }: IncomingMessage): string[] {
  return [...Object.keys(headers), ...rawHeaders.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase())]
}

function isHarmless(name: string): boolean {
  return HARMLESS.has(name) || HARMLESS_FAMILIES.test(name) || name[0] === ':' || isHopByHop(name)
}

/** Two browsers of one user have these in common. */
function isSharedCredential(name: string): boolean {
  return name === 'authorization' || name === 'cookie'
}

function isCallerHeader(name: string): boolean {
  if (isSharedCredential(name) || HARMLESS.has(name) || HARMLESS_FAMILIES.test(name) || name[0] === ':') return false
  return CALLER_PARTS.test(name) || CALLER_WORDS.test(name)
}

/** Also one that nobody has verified: the app may have looked at it. */
function hasClientCertificate({ socket }: IncomingMessage): boolean {
  return socket instanceof TLSSocket && Object.keys(socket.getPeerCertificate() ?? {}).length > 0
}
