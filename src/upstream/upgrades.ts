// WebSocket upgrades, which http-proxy-middleware proxies by itself. Here they get the package's rules for paths and headers,
// and an end where something fails: httpxy would leave the socket open, or let its error end the process.

import { ClientRequest, type IncomingMessage, STATUS_CODES } from 'node:http'
import { Socket } from 'node:net'
import { type HeaderNames, withoutHeaders } from '../end-to-end.ts'
import { UpstreamError } from '../errors.ts'
import type { ProxyServer } from './http-proxy.ts'
import type { PathBoundary } from './path-boundary.ts'

/**
 * Puts the rules on all upgrades of a proxy server.
 * @param stripped headers of the client that do not travel on
 */
export function interceptUpgrades(server: ProxyServer, boundary: PathBoundary, stripped: HeaderNames): void {
  const { ws } = server
  // Gives the request that is being sent on its stripped headers back.
  let giveBack = () => {}
  server.ws = (req, socket, options, head) => {
    if (!boundary.admitsRewritten(req.url ?? '/')) {
      refuseUpgrade(server, req, socket)
      return Promise.resolve()
    }
    const came = req.headers
    const restore = () => {
      req.headers = came
    }
    giveBack = restore
    // httpxy copies them at once, and lays over them what the app adds: stripped afterwards, that would be lost too.
    req.headers = withoutHeaders(req, stripped).headers
    try {
      return ws.call(server, req, socket, options, head)
    } finally {
      restore()
    }
  }
  server.on('error', closeFailedUpgrade)
  // Comes before the listeners of the app, which has the request as it came.
  server.on('proxyReqWs', (_proxyReq, _req, socket) => {
    giveBack()
    ignoreErrors(socket)
  })
  server.on('open', ignoreErrors)
  server.on('close', (_proxyRes, socket) => ignoreErrors(socket))
}

/** Tells the app's `on.error`, and the client why. */
export function refuseUpgrade(server: ProxyServer, req: IncomingMessage, socket: Socket): void {
  server.emit('error', new UpstreamError('ERR_SSE_PROXY_PATH'), req, socket)
}

/** A handler that throws has not let the WebSocket through, where that can still be stopped. */
export function failUpgrade(event: string, [connection]: unknown[]): void {
  if (event !== 'proxyReqWs' && event !== 'open') return
  const failure = new Error(`on.${event} threw`)
  if (connection instanceof ClientRequest || connection instanceof Socket) connection.destroy(failure)
}

/** Listens to `error` for the package. A WebSocket that cannot be proxied is closed; one that was not let in is told why. */
export function closeFailedUpgrade(error: Error, _req?: unknown, res?: unknown): void {
  if (!(res instanceof Socket)) return
  if (!(error instanceof UpstreamError)) return void res.destroy()
  res.write(upgradeRefusal(error))
  res.destroySoon()
}

/** A socket that fails without a listener would end the process. */
export function ignoreErrors(socket: Socket): void {
  socket.on('error', () => {})
}

function upgradeRefusal({ status, code, message }: UpstreamError): string {
  const body = JSON.stringify({ error: { code, message } })
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Connection: close',
    'Content-Type: application/json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
  ]
  return `${head.join('\r\n')}\r\n\r\n${body}`
}
