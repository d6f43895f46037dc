// The names of options: the package's own, and those of http-proxy-middleware that are refused because another option takes
// their place. Those that are passed on are in passed-options.ts.

import type { SseProxyOptions } from './options.ts'

/** Every option of the package's own, in the order in which a request meets them. */
export const OWN_OPTIONS: readonly (keyof SseProxyOptions)[] = [
  'target',
  'balance',
  'sticky',
  'health',
  'retry',
  'resume',
  'keepalive',
  'stripHeaders',
  'framing',
  'transform',
  'timeouts',
  'limits',
  'share',
  'isEnd',
  'onLost',
  'from',
  'to',
  'http2',
  'fastLane',
  'onDisconnect',
  'unavailable',
  'clientRetryMs',
  'via',
  'name',
  'onOpen',
  'onEnd',
  'onClose',
]

/** Options whose own checks have a better message for null. */
export const CHECKED_WITH_NULL: readonly string[] = [
  'target',
  'transform',
  'isEnd',
  'onLost',
  'onOpen',
  'onEnd',
  'onClose',
]

/** Options of http-proxy-middleware that are refused, and what to use in their place. */
export const REPLACED: Readonly<Record<string, string>> = {
  selfHandleResponse: 'use transform or the on.proxyRes handler instead',
  proxyTimeout: 'use timeouts.responseMs (no answer) and timeouts.idleMs (silent stream) instead',
  timeout: 'use timeouts.lifetimeMs (age) and timeouts.writeMs (client that does not read) instead',
  onProxyReq: 'use on.proxyReq instead',
  onProxyRes: 'use on.proxyRes instead',
  onProxyReqWs: 'use on.proxyReqWs instead',
  onError: 'use on.error instead',
  logLevel: 'use logger, or the environment variable DEBUG=sse-proxy:* instead',
  logProvider: 'use logger instead',
  buffer: 'a body that was already read by a body parser is sent again without it',
}
