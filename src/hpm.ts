// The one door to http-proxy-middleware: its functions, for the transport, and its types, for the options that it is given.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { createProxyMiddleware, type Options, type Plugin, proxyEventsPlugin } from 'http-proxy-middleware'

export { createProxyMiddleware, type Options, type Plugin, proxyEventsPlugin }

/** http-proxy-middleware's own options. */
export type HpmOptions<
  TReq extends IncomingMessage = IncomingMessage,
  TRes extends ServerResponse = ServerResponse,
> = Options<TReq, TRes>

/** An upstream as http-proxy-middleware takes it: a URL or its parts. */
export type HpmTarget = NonNullable<HpmOptions['target']>
