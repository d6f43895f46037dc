// What in a request may tell one caller from another, where the app has not said who shares. Browsers and the proxies
// on the way send a good deal that does not; whatever is not known to be of that kind keeps clients apart.

import type { IncomingMessage } from 'node:http'
import { TLSSocket } from 'node:tls'
import { type ClientHeaders, endToEndHeaders, isHopByHop } from '../end-to-end.ts'

// Headers that do not tell callers apart. Host is in the key already. What proxies say of the host that was asked
// (X-Forwarded-Host) is not here, since it may name a tenant.
const HARMLESS = new Set(
  [
    // How a client speaks. An upstream whose answer depends on one of these says so with Vary.
    'accept accept-charset accept-encoding accept-language cache-control dnt expect host last-event-id origin',
    'pragma priority purpose referer save-data upgrade-insecure-requests user-agent',
    // The device and the connection of a browser.
    'device-memory downlink dpr ect rtt viewport-width width',
    // Where a client stands, and the proxies on the way.
    'cdn-loop cf-connecting-ip cf-connecting-ipv6 cf-ew-via cf-ipcountry cf-visitor client-ip fastly-client-ip',
    'fastly-ff fly-client-ip true-client-ip via x-azure-clientip x-azure-requestchain x-azure-socketip',
    'x-client-ip x-client-port x-cluster-client-ip x-envoy-attempt-count x-envoy-expected-rq-timeout-ms',
    'x-envoy-external-address x-forwarded-for x-original-forwarded-for x-real-ip',
    // The request, and the trace it belongs to.
    'b3 cf-ray fly-request-id sentry-trace traceparent tracestate uber-trace-id x-amz-cf-id x-amzn-trace-id',
    'x-arr-log-id x-azure-ref x-cloud-trace-context x-correlation-id x-queue-start x-request-id x-request-start',
    'x-vercel-id',
  ].flatMap((names) => names.split(' ')),
)
// The same by how their names begin: client hints, fetch metadata, CDNs and traces.
const HARMLESS_FAMILIES = /^(?:sec-(?:ch|fetch)-|sec-(?:gpc|purpose)$|cloudfront-(?:viewer|is)-|x-b3-|x-datadog-)/

// Headers that carry a credential, or name a person or a session, are called by one of these words everywhere.
const CALLER_PARTS =
  /auth|token|session|credential|secret|passw|api[-_]?key|client[-_]?id|jwt|assertion|csrf|xsrf|signature|principal|identity|account|cert|cookie/
const CALLER_WORDS =
  /(?:^|[-_])(?:user\w*|uid|sid|login|e?mail|from|sso|saml|oidc|dpop|consumer|customer|member|visitor|guest|device|key|nonce|dn|mtls)(?:$|[-_])/

/** Whether a request says who sends it, in a way that a key cannot be trusted to hold: it is not to be shared at all. */
export function namesCaller(sent: ClientHeaders, req: IncomingMessage): boolean {
  return headerNames(sent).some(isCallerHeader) || hasClientCertificate(req)
}

/** Whether the answer to a request may be meant for one user. */
export function carriesCredentials(sent: ClientHeaders, req: IncomingMessage): boolean {
  return headerNames(sent).some((name) => isSharedCredential(name)) || namesCaller(sent, req)
}

/** The headers in which two clients of one stream must not differ: as they are sent, and as they came. */
export function tellingHeaders(client: ClientHeaders): unknown[] {
  const { rawHeaders } = client
  const sent = Object.entries(endToEndHeaders(client))
  // A middleware may have checked a credential, and removed it.
  const came = rawHeaders.flatMap((name, i) => (i % 2 === 0 ? [[name.toLowerCase(), rawHeaders[i + 1]] as const] : []))
  return [telling(sent), telling(came)]
}

// A header's value as Node gives it.
type Value = string | string[] | undefined

/** Those of the headers that may tell callers apart, in an order that does not depend on how they were sent. */
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

/** The names of a request's headers as they are now and as they came: a middleware may have removed some. */
function headerNames({ headers, rawHeaders }: ClientHeaders): string[] {
  return [...Object.keys(headers), ...rawHeaders.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase())]
}

/** Whether it is known to tell nothing of the caller. Names with a colon are HTTP/2's own, and in the URL. */
function isHarmless(name: string): boolean {
  return HARMLESS.has(name) || HARMLESS_FAMILIES.test(name) || name[0] === ':' || isHopByHop(name)
}

/** Whether a key may hold it: two browsers of one user have these in common. */
function isSharedCredential(name: string): boolean {
  return name === 'authorization' || name === 'cookie'
}

/** Whether a header's name says that it carries a credential or names the caller. */
function isCallerHeader(name: string): boolean {
  if (isSharedCredential(name) || HARMLESS.has(name) || HARMLESS_FAMILIES.test(name) || name[0] === ':') return false
  return CALLER_PARTS.test(name) || CALLER_WORDS.test(name)
}

/** Whether a client has shown a certificate, verified or not: the app may have looked at it. */
function hasClientCertificate({ socket }: IncomingMessage): boolean {
  return socket instanceof TLSSocket && Object.keys(socket.getPeerCertificate() ?? {}).length > 0
}
