// Which options there are beside those that http-proxy-middleware gets: the package's own, and those that have another
// name here.

import type { SseProxyOptions } from './options.ts'

/** Every option of the package's own, in the order of the README's table. */
export const OWN_OPTIONS: readonly (keyof SseProxyOptions)[] = [
  'target',
  'balance',
  'sticky',
  'health',
  'retry',
  'resume',
  'keepalive',
  'framing',
  'transform',
  'timeouts',
  'limits',
  'share',
  'onDisconnect',
  'unavailable',
  'clientRetryMs',
  'via',
  'name',
  'onOpen',
  'onEnd',
  'onClose',
]

/** Their checks say better what they expect than that null is nothing. */
export const CHECKED_WITH_NULL: readonly string[] = ['target', 'transform', 'onOpen', 'onEnd', 'onClose']

/** Options of http-proxy-middleware that are not passed on, and what to use in their place. */
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
