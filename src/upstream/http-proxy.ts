// The one place that knows http-proxy-middleware. It works on stand-ins; the app's handlers and plugins get the real
// request and response in their place, and its error events of proxied requests go to the attempt they belong to.

import { ClientRequest, IncomingMessage, ServerResponse, STATUS_CODES } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { asError, awaited, isThenable, promised, type ReportFailure, tell } from '../app-callback.ts'
import { type HeaderNames, overlaid } from '../end-to-end.ts'
import { UpstreamError } from '../errors.ts'
import {
  createProxyMiddleware,
  type HpmOptions,
  type HpmTarget,
  type Options,
  type Plugin,
  proxyEventsPlugin,
} from '../hpm.ts'
import { logLines } from './log-lines.ts'
import { originForm, PathBoundary } from './path-boundary.ts'
import { StandInRequest, StandInResponse } from './stand-ins.ts'

export type ProxyServer = Parameters<Plugin>[0]
type ErrorListener = (error: Error, req?: IncomingMessage, res?: ServerResponse, target?: HpmTarget) => unknown

type EndListener = (req: IncomingMessage, res: ServerResponse, answer: IncomingMessage) => void

export interface HttpProxy {
  readonly boundary: PathBoundary
  /** Sends a request through http-proxy-middleware; what becomes of it is told to the stand-in's handler. */
  pass(req: StandInRequest, res: StandInResponse): void
  /** Whether `pathFilter` lets the request in; rejects where the app's function fails. */
  accepts(req: IncomingMessage): true | Promise<boolean>
  /** Tells the app's `on.error` and plugins; resolves when all of them have had their say, and never rejects. */
  report(error: Error, req: IncomingMessage, res: ServerResponse, target?: HpmTarget): Promise<void>
  /** Whether anybody wants to know when an answer has ended. */
  readonly tellsEnd: boolean
  tellEnd(req: IncomingMessage, res: ServerResponse, answer: IncomingMessage): void
  upgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void
}

/**
 * @param target for requests that have no upstream of their own
 * @param isOnly whether there is no other, so that asking a router, and waiting for it, can be left out
 * @param upgrades what becomes of the headers of upgrades, which are no attempts
 * @param callbackFailed told of handlers that fail where nothing else shows it
 */
export function createHttpProxy(
  hpm: HpmOptions,
  target: HpmTarget | undefined,
  isOnly: boolean,
  callbackFailed: ReportFailure,
  upgrades: UpgradeHeaders,
): HttpProxy {
  // `ws` would subscribe to upgrades only when the first response is over, which for a stream may be never.
  const { pathFilter: _pathFilter, plugins = [], ejectPlugins = false, pathRewrite, router, ws: _ws, ...rest } = hpm
  const boundary = new PathBoundary(hpm)
  const accepts = hpm.pathFilter === undefined ? () => true as const : createFilter(hpm)
  const seam = createSeam(boundary, callbackFailed, upgrades)
  const middleware = createProxyMiddleware({
    ...rest,
    ...(typeof pathRewrite === 'function'
      ? {
          pathRewrite: awaited('pathRewrite', (path, req, res, options) =>
            pathRewrite(path, original(req), original(res), options),
          ),
        }
      : { pathRewrite }),
    ...(typeof router === 'function'
      ? {
          router: awaited('router', async (req, res, options) =>
            checkRouted(await router(original(req), original(res), options)),
          ),
        }
      : { router: isOnly ? undefined : (router ?? ((_req, res) => chosenTarget(res) ?? target ?? '')) }),
    target,
    // The default answer to errors writes into the response; the other defaults are kept.
    ejectPlugins: true,
    plugins: [
      seam.plugin,
      ...(ejectPlugins ? [] : [proxyEventsPlugin, ...(hpm.logger ? [logLines] : [])]),
      ...plugins.map((plugin) => guardedPlugin(plugin, callbackFailed)),
    ],
  } as Options)

  return {
    boundary,
    accepts,
    pass(req, res) {
      const failed = (error: unknown) => {
        if (error !== undefined) res.handler.onUnroutable(error)
      }
      // The seam: of a request and a response, http-proxy-middleware uses just what the stand-ins have.
      middleware(req as unknown as IncomingMessage, res as unknown as ServerResponse, failed).catch(failed)
    },
    async report(error, req, res, target) {
      for (const listener of seam.errorListeners()) {
        try {
          await listener(error, req, res, target)
        } catch (thrown) {
          callbackFailed('on.error', thrown)
        }
      }
    },
    get tellsEnd() {
      return seam.endListeners().length > 0
    },
    tellEnd(req, res, answer) {
      for (const listener of seam.endListeners()) tell('on.end', () => listener(req, res, answer), callbackFailed)
    },
    upgrade(req, socket, head) {
      const take = () => {
        // Every server's sockets are; its types promise less.
        if (!(socket instanceof Socket)) return socket.destroy()
        // One that fails while a router thinks would end the process.
        ignoreErrors(socket)
        if (!boundary.admits(req.url ?? '/')) return seam.refuseUpgrade(req, socket)
        req.url = originForm(req.url ?? '/')
        middleware.upgrade(req, socket, head)
      }
      const accepted = accepts(req)
      // One that the filter leaves out is somebody else's on the same server, or nobody's.
      if (accepted === true) take()
      else
        void accepted.then(
          (yes) => yes && take(),
          (error) => callbackFailed('pathFilter', error),
        )
    },
  }
}

/** What becomes of the headers of a WebSocket's request on its way to the upstream. */
export interface UpgradeHeaders {
  /** Those of the client that do not travel on. */
  readonly stripped: HeaderNames
  /** The target's own, over those of the client. */
  readonly own: Readonly<Record<string, string>> | undefined
}

/** A plugin that stands between http-proxy-middleware and everybody who listens to it. */
interface Seam {
  readonly plugin: Plugin
  errorListeners(): ErrorListener[]
  endListeners(): EndListener[]
  refuseUpgrade(req: IncomingMessage, socket: Socket): void
}

function createSeam(boundary: PathBoundary, callbackFailed: ReportFailure, upgrades: UpgradeHeaders): Seam {
  let server: ProxyServer | undefined
  return {
    endListeners: () => server?.rawListeners('end') ?? [],
    plugin(installed) {
      server = installed
      interceptPasses(installed, boundary, upgrades)
      interceptEvents(installed, callbackFailed)
      installed.on('error', closeFailedUpgrade)
      guardUpgrades(installed)
      if (upgrades.stripped.size > 0) stripUpgrades(installed, upgrades.stripped)
    },
    errorListeners: () => (server?.rawListeners('error') ?? []).filter((listener) => listener !== closeFailedUpgrade),
    refuseUpgrade(req, socket) {
      if (server) refuseUpgrade(server, req, socket)
    },
  }
}

function interceptPasses(server: ProxyServer, boundary: PathBoundary, upgrades: UpgradeHeaders): void {
  const { web, ws } = server
  server.web = (req, res, options = {}, head) => {
    if (isStandIn(res) && !res.handler.prepare(options, req)) return Promise.resolve()
    return web.call(server, req, res, options, head)
  }
  server.ws = (req, socket, options, head) => {
    if (boundary.admitsRewritten(req.url ?? '/')) {
      const own = upgrades.own && { headers: overlaid(options?.headers ?? {}, upgrades.own) }
      return ws.call(server, req, socket, own ? { ...options, ...own } : options, head)
    }
    refuseUpgrade(server, req, socket)
    return Promise.resolve()
  }
}

function refuseUpgrade(server: ProxyServer, req: IncomingMessage, socket: Socket): void {
  server.emit('error', new UpstreamError('ERR_SSE_PROXY_PATH'), req, socket)
}

function interceptEvents(server: ProxyServer, callbackFailed: ReportFailure): void {
  /** As `emit()` does it, except that the failure of a listener is no business of httpxy's or of the next one. */
  const emit = (event: string, args: unknown[], onThrown: (path: string, thrown: unknown) => void): boolean => {
    const listeners: ((...args: unknown[]) => unknown)[] = server.rawListeners(event)
    for (const listener of listeners) {
      tell(`on.${event}`, () => Reflect.apply(listener, server, args), callbackFailed, onThrown)
    }
    return listeners.length > 0
  }
  const intercepted = (event: string, ...args: unknown[]): boolean => {
    const res = args.find(isStandIn)
    if (res === undefined) {
      return emit(event, args, (path, thrown) => {
        callbackFailed(path, thrown)
        failUpgrade(event, args)
      })
    }
    if (event === 'error') return res.handler.onFailure(args[0])
    if (event === 'end') {
      // Told when it is true, see `tellEnd`; here it only means that the headers are done.
      const answer = args[2]
      if (answer instanceof IncomingMessage) res.handler.onHead(answer)
      return true
    }
    if (event === 'proxyReq') res.handler.onUpstreamRequest(args[0], args[3] as HpmOptions)
    if (server.listenerCount(event) > 0) {
      const tellAll = () => {
        emit(event, args.map(original), (path, thrown) => res.handler.onUnroutable(asError(path, thrown)))
      }
      const [request, standIn] = args
      if (event === 'proxyReq' && request instanceof ClientRequest && standIn instanceof StandInRequest) {
        standIn.handOver(request, tellAll)
      } else {
        tellAll()
      }
    }
    if (event === 'proxyRes') res.finished = true
    return event === 'econnreset' ? res.handler.onFailure(args[0]) : true
  }
  Object.assign(server, { emit: intercepted })
}

/** A handler that throws has not let the WebSocket through, where that can still be stopped. */
function failUpgrade(event: string, [connection]: unknown[]): void {
  if (event !== 'proxyReqWs' && event !== 'open') return
  const failure = new Error(`on.${event} threw`)
  if (connection instanceof ClientRequest || connection instanceof Socket) connection.destroy(failure)
}

/** What a plugin throws when it is installed, the app sees; what it rejects with later is reported. */
function guardedPlugin(plugin: Plugin, callbackFailed: ReportFailure): Plugin {
  return (server, options) => {
    const result: unknown = plugin(server, options)
    if (isThenable(result)) promised(result).catch((error) => callbackFailed('plugins', error))
  }
}

const PLACES = ['host', 'hostname', 'port', 'socketPath']

/** Nothing stands for the target; anything else that is no upstream would be asked at localhost. */
function checkRouted<T>(routed: T): T {
  if (routed === undefined || routed === null || routed === '') return routed
  if (typeof routed === 'string' && URL.canParse(routed)) return routed
  if (typeof routed === 'object' && PLACES.some((name) => Reflect.get(routed, name))) return routed
  // A URL may hold credentials.
  const got = typeof routed === 'string' ? 'a text that is none' : typeof routed
  throw new TypeError(
    `router: expected the function to return a URL, an object with host and port, or nothing, got ${got}`,
  )
}

function isStandIn(value: unknown): value is StandInResponse {
  return value instanceof StandInResponse
}

/** The app's own object in a stand-in's place. */
function original<T>(value: T): T {
  if (isStandIn(value)) return value.forApp as T
  return value instanceof StandInRequest ? (value.client as T) : value
}

function chosenTarget(res: unknown): HpmTarget | undefined {
  return isStandIn(res) ? res.handler.target : undefined
}

/** A WebSocket that cannot be proxied is closed; one that was not let in is told why. */
function closeFailedUpgrade(error: Error, _req?: unknown, res?: unknown): void {
  if (!(res instanceof Socket)) return
  if (!(error instanceof UpstreamError)) return void res.destroy()
  res.write(upgradeRefusal(error))
  res.destroySoon()
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

/** A socket that fails without a listener would end the process. */
function guardUpgrades(server: ProxyServer): void {
  server.on('proxyReqWs', (_proxyReq, _req, socket) => ignoreErrors(socket))
  server.on('open', ignoreErrors)
  server.on('close', (_proxyRes, socket) => ignoreErrors(socket))
}

/** The request to the upstream is made of the client's, which the app has as well. */
function stripUpgrades(server: ProxyServer, stripped: HeaderNames): void {
  server.on('proxyReqWs', (proxyReq, _req, _socket, { headers = {} }) => {
    const added = new Set(Object.keys(headers).map((name) => name.toLowerCase()))
    for (const name of stripped) if (!added.has(name)) proxyReq.removeHeader(name)
  })
}

function ignoreErrors(socket: Socket): void {
  socket.on('error', () => {})
}

/** Asks http-proxy-middleware itself: what it would route, it accepts. */
function createFilter(hpm: HpmOptions): (req: IncomingMessage) => Promise<boolean> {
  const accepted = new Error('accepted')
  const { pathFilter } = hpm
  // What the app's function throws, http-proxy-middleware would take for a no.
  const failures = new WeakMap<IncomingMessage, unknown>()
  const probe = createProxyMiddleware({
    ...(pathFilter !== undefined && {
      pathFilter: typeof pathFilter !== 'function' ? pathFilter : noting(pathFilter, failures),
    }),
    ...(hpm.logger && { logger: hpm.logger }),
    router: () => Promise.reject(accepted),
    ejectPlugins: true,
  })
  return (req) =>
    new Promise((resolve, reject) => {
      void probe(req, new ServerResponse(req), (outcome) => {
        if (failures.has(req)) reject(failures.get(req))
        else resolve(outcome === accepted)
      }).catch(reject)
    })
}

type FilterFunction = Extract<HpmOptions['pathFilter'], (...args: never[]) => unknown>

function noting(pathFilter: FilterFunction, failures: WeakMap<IncomingMessage, unknown>): FilterFunction {
  return (path, req) => {
    try {
      return pathFilter(path, req)
    } catch (error) {
      failures.set(req, error)
      return false
    }
  }
}
