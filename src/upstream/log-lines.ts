// What http-proxy-middleware tells the app's logger, in its words: a line for each answer, each failure and each
// WebSocket. Its own plugin takes the port from the agent's first socket, which may be another upstream's or none. Beside them:
// what to do about the two usual mistakes in mounting, once each.

import { Agent, ClientRequest, type IncomingMessage } from 'node:http'
import { isUpstreamsFault, SseProxyError } from '../errors.ts'
import type { HpmOptions } from '../hpm.ts'
import { DEFAULT_NAME } from '../options/resolve-options.ts'
import { codeOf, systemError } from '../system-error.ts'
import type { ProxyServer } from './http-proxy.ts'

type Logger = NonNullable<HpmOptions['logger']>

/** A plugin for apps that have given a `logger`. @param name the proxy's */
export function logLines(logger: Logger, name: string): (server: ProxyServer, options: HpmOptions) => void {
  return (server, { agent }) => {
    // Its own lines have no name, and look the same here as long as the proxy has none.
    const prefix = name === DEFAULT_NAME ? '[HPM]' : `[${name}] [HPM]`
    server.on('error', (error, req, _res, target) => logFailure(logger, prefix, error, req, target))
    const warn = (text: string) => logger.warn(`[${name}] ${text}`)
    const given = new Set<Mistake>()
    server.on('proxyRes', (answer, req) => {
      const [from, to] = [pathAtApp(req), urlAtUpstream(answer, agent !== undefined)]
      logger.info(`${prefix} ${req.method} ${from} -> ${to} [${answer.statusCode}]`)
      if (answer.statusCode === 404) adviseOnMount(warn, given, withoutQuery(from), withoutQuery(to))
    })
    server.on('open', (socket) => logger.info('%s Client connected: %o', prefix, socket.address()))
    server.on('close', (_answer, socket) => logger.info('%s Client disconnected: %o', prefix, socket.address()))
  }
}

function logFailure(
  logger: Logger,
  prefix: string,
  error: Error,
  req: IncomingMessage | undefined,
  target: unknown,
): void {
  const own = error instanceof SseProxyError ? error : undefined
  // An upstream that is down fails every request; `UpstreamLog` tells of the first one and then from time to time.
  if (own && isUpstreamsFault(own)) return
  logger.error(
    '%s Error occurred while proxying request %s to %s [%s] (%s)',
    prefix,
    `${req?.headers.host}${req?.url}`,
    String(target),
    codeOf(own?.cause) || codeOf(error) || String(error),
    systemError(own?.cause) || error.message,
  )
}

type Mistake = 'twice' | 'cut off'

/**
 * The upstream's path is the target's and what the mount has left of the request's. Either of two mistakes is a 404.
 * @param asked at the app
 * @param url at the upstream
 */
function adviseOnMount(warn: (text: string) => void, given: Set<Mistake>, asked: string, url: string): void {
  if (!URL.canParse(url)) return
  const { origin, pathname } = new URL(url)
  const before = pathname.endsWith(asked) ? pathname.slice(0, -asked.length) : ''
  const advise = (mistake: Mistake, text: string): void => {
    if (!given.has(mistake)) warn(`${origin}${pathname} was answered 404: ${text}`)
    given.add(mistake)
  }
  if (before !== '' && `${asked}/`.startsWith(`${before}/`)) {
    advise(
      'twice',
      `the target's path comes before the request's, which has ${before} already. Mount with app.use('${before}', ...), which cuts it off, or leave it out of target.`,
    )
  } else if (pathname === '/' && asked !== '/') {
    advise(
      'cut off',
      `the mount path ${asked} has been cut off, and the target has no path. Where the upstream has one, write it: target: '${origin}${asked}'.`,
    )
  }
}

function withoutQuery(url: string): string {
  return url.replace(/\?.*/s, '')
}

/** Express cuts the mount path off `url`, other frameworks do not. */
function pathAtApp(req: IncomingMessage): string {
  const [whole, base = ''] = [Reflect.get(req, 'originalUrl'), Reflect.get(req, 'baseUrl')]
  return String(whole ?? `${base}${req.url}`)
}

function urlAtUpstream(answer: IncomingMessage, hasAgentOfTheApp: boolean): string {
  const request: unknown = Reflect.get(answer, 'req')
  if (!(request instanceof ClientRequest)) return ''
  const { host, path, protocol, socket } = request
  const agent: unknown = Reflect.get(request, 'agent')
  // An agent of the app's may go through another proxy, whose port the connection has.
  const port = (hasAgentOfTheApp && portOf(agent, host)) || socket?.remotePort
  const url = new URL(`${protocol}//${host.includes(':') ? `[${host}]` : host}`)
  if (port) url.port = String(port)
  return `${url.origin}${path}`
}

/** Agents name their connections `host:port:...`. */
function portOf(agent: unknown, host: string): string | undefined {
  const name = Object.keys(agent instanceof Agent ? agent.sockets : {}).find((each) => each.startsWith(`${host}:`))
  return name?.slice(host.length + 1).split(':')[0]
}
