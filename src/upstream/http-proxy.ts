// The one place that knows how http-proxy-middleware works inside. It runs on stand-ins; the app's handlers and plugins get
// the real request and response in their place, and what httpxy tells of a request goes to the handler of its pass.

import { ClientRequest, IncomingMessage, type ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { asError, awaited, isThenable, promised, type ReportFailure, tell } from '../app-callback.ts'
import type { HeaderNames } from '../end-to-end.ts'
import { createProxyMiddleware, type HpmOptions, type HpmTarget, type Plugin, proxyEventsPlugin } from '../hpm.ts'
import { logLines } from './log-lines.ts'
import { originForm, PathBoundary } from './path-boundary.ts'
import { createPathFilter } from './path-filter.ts'
import { useOwnHeaders } from './request-headers.ts'
import { StandInRequest, StandInResponse } from './stand-ins.ts'
import type { Upstream } from './transport.ts'
import { closeFailedUpgrade, failUpgrade, ignoreErrors, interceptUpgrades, refuseUpgrade } from './upgrades.ts'

/** httpxy's server, on which http-proxy-middleware and its plugins listen. */
export type ProxyServer = Parameters<Plugin>[0]
type ErrorListener = (error: Error, req?: IncomingMessage, res?: ServerResponse, target?: HpmTarget) => unknown
type EndListener = (req: IncomingMessage, res: ServerResponse, answer: IncomingMessage) => void

/** http-proxy-middleware, as the rest of the package uses it. */
export interface HttpProxy {
  readonly boundary: PathBoundary
  /** Sends a request through http-proxy-middleware; what becomes of it is told to the handler of its stand-ins. */
  pass(req: StandInRequest, res: StandInResponse): void
  /** Whether `pathFilter` lets the request in; rejects where the app's function fails. */
  accepts(req: IncomingMessage): true | Promise<boolean>
  /** Tells the app's `on.error` and plugins; resolves when all of them have had their say, and never rejects. */
  report(error: Error, req: IncomingMessage, res: ServerResponse, target?: HpmTarget): Promise<void>
  /** Whether the app listens to `on.end`. */
  readonly tellsEnd: boolean
  /** Tells the app's `on.end`, when an answer has really ended. */
  tellEnd(req: IncomingMessage, res: ServerResponse, answer: IncomingMessage): void
  /** Proxies a WebSocket, where `pathFilter` lets it in. */
  upgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void
}

/** The seam: of a request and a response, http-proxy-middleware uses just what the stand-ins have, whatever its types say. */
interface Passing {
  pass(
    req: IncomingMessage | StandInRequest,
    res: ServerResponse | StandInResponse,
    failed: (error: unknown) => void,
  ): Promise<void>
}

/** An upstream as far as it is used here; see `Upstream`. */
export type Fallback = Pick<Upstream, 'target' | 'headers'>

/**
 * @param name the proxy's, for the log
 * @param fallback the upstream of requests that none was chosen for, as upgrades are: asked for with each of them
 * @param stripped headers that upgrades, which are no attempts, lose as well
 * @param callbackFailed told of handlers that fail where nothing else shows it
 */
export function createHttpProxy(
  hpm: HpmOptions,
  name: string,
  fallback: () => Fallback | undefined,
  stripped: HeaderNames,
  callbackFailed: ReportFailure,
): HttpProxy {
  // `ws` would subscribe to upgrades only when the first response is over, which for a stream may be never.
  const { pathFilter: _pathFilter, plugins = [], ejectPlugins = false, pathRewrite, router, ws: _ws, ...rest } = hpm
  const boundary = new PathBoundary(hpm)
  const accepts = hpm.pathFilter === undefined ? () => true as const : createPathFilter(hpm)
  // Set when the middleware is created, which installs the plugin.
  let server: ProxyServer | undefined
  /** Stands between http-proxy-middleware and all its listeners. */
  const seam: Plugin = (installed) => {
    server = installed
    interceptPasses(installed)
    interceptEvents(installed, callbackFailed)
    interceptUpgrades(installed, boundary, stripped)
  }
  const errorListeners = (): ErrorListener[] =>
    (server?.rawListeners('error') ?? []).filter((listener) => listener !== closeFailedUpgrade)
  const endListeners = (): EndListener[] => server?.rawListeners('end') ?? []
  const route = routerOf(router, fallback, typeof pathRewrite === 'function')
  const target = fallback()?.target
  const middleware = createProxyMiddleware({
    ...rest,
    ...(pathRewrite !== undefined && { pathRewrite: rewriteOf(pathRewrite) }),
    ...(route !== undefined && { router: route }),
    ...(target !== undefined && { target }),
    // The default answer to errors writes into the response; the other defaults are kept.
    ejectPlugins: true,
    plugins: [
      seam,
      ...(ejectPlugins ? [] : [proxyEventsPlugin, ...(hpm.logger ? [logLines(hpm.logger, name)] : [])]),
      ...plugins.map((plugin) => guardedPlugin(plugin, callbackFailed)),
    ],
  })

  const takeUpgrade = (req: IncomingMessage, socket: Duplex, head: Buffer) => {
    // Every server's sockets are; its types promise less.
    if (!(socket instanceof Socket)) return socket.destroy()
    // One that fails while a router thinks would end the process.
    ignoreErrors(socket)
    if (!boundary.admits(req.url ?? '/')) return server && refuseUpgrade(server, req, socket)
    req.url = originForm(req.url ?? '/')
    middleware.upgrade(req, socket, head)
  }

  const passing: Passing = { pass: middleware }

  return {
    boundary,
    accepts,
    pass(req, res) {
      const failed = (error: unknown) => {
        if (error !== undefined) res.handler.onUnroutable(error)
      }
      passing.pass(req, res, failed).catch(failed)
    },
    async report(error, req, res, target) {
      for (const listener of errorListeners()) {
        try {
          await withinTime(listener(error, req, res, target))
        } catch (thrown) {
          callbackFailed('on.error', thrown)
        }
      }
    },
    get tellsEnd() {
      return endListeners().length > 0
    },
    tellEnd(req, res, answer) {
      for (const listener of endListeners()) tell('on.end', () => listener(req, res, answer), callbackFailed)
    },
    upgrade(req, socket, head) {
      const accepted = accepts(req)
      // One that the filter leaves out belongs to another route of the same server, or to none.
      if (accepted === true) takeUpgrade(req, socket, head)
      else
        void accepted.then(
          (yes) => yes && takeUpgrade(req, socket, head),
          (error) => callbackFailed('pathFilter', error),
        )
    },
  }
}

// The app's functions get the app's own objects, and may take their time.
type PathRewrite = NonNullable<HpmOptions['pathRewrite']>
type Router = NonNullable<HpmOptions['router']>

function rewriteOf(pathRewrite: PathRewrite): PathRewrite {
  if (typeof pathRewrite !== 'function') return pathRewrite
  return awaited('pathRewrite', (path, req, res, options) =>
    pathRewrite(path, originalRequest(req), res && originalResponse(res), options),
  )
}

/**
 * The app's router, or one that finds the upstream chosen for the pass; absent where there is nothing to choose.
 * @param isShown whether a function of the app's sees the target, as it was written
 */
function routerOf(
  router: HpmOptions['router'],
  fallback: () => Fallback | undefined,
  isShown: boolean,
): Router | undefined {
  if (typeof router === 'function') {
    return awaited('router', async (req, res, options) =>
      checkRouted(await router(originalRequest(req), res && originalResponse(res), options)),
    )
  }
  if (router !== undefined || !fallback()) return router
  return (_req, res, options) => chosenTarget(res, isShown) ?? useFallback(fallback(), options)
}

/** For an upgrade, whose options these are; the headers of an attempt are put on when it is prepared. */
function useFallback(fallback: Fallback | undefined, options: HpmOptions): HpmTarget {
  useOwnHeaders(options, fallback?.headers)
  return fallback?.target ?? ''
}

/** Asks the handler of a pass before httpxy begins with it; passes without a stand-in are upgrades. */
function interceptPasses(server: ProxyServer): void {
  const { web } = server
  server.web = (req, res, options = {}, head) => {
    if (isStandIn(res) && !res.handler.prepare(options, req)) return Promise.resolve()
    return web.call(server, req, res, options, head)
  }
}

/**
 * Listeners of the app are called with its own objects, and a throw fails their request alone. Errors and the end of a
 * pass do not reach them from here: which of them count is decided later, and told by `report` and `tellEnd`.
 */
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
      // httpxy says so when the headers are done, which is what counts here. The app is told when it is true: see `tellEnd`.
      const answer = args[2]
      if (answer instanceof IncomingMessage) res.handler.onHead(answer)
      return true
    }
    const [request, standIn, , options] = args
    const isRequest = event === 'proxyReq' && request instanceof ClientRequest
    if (isRequest && isOptions(options)) res.handler.onUpstreamRequest(request, options)
    if (server.listenerCount(event) > 0) {
      const tellAll = () => {
        emit(event, args.map(original), (path, thrown) => res.handler.onUnroutable(asError(path, thrown)))
      }
      if (isRequest && standIn instanceof StandInRequest) standIn.handOver(request, tellAll)
      else tellAll()
    }
    if (event === 'proxyRes') res.finished = true
    return event === 'econnreset' ? res.handler.onFailure(args[0]) : true
  }
  Object.assign(server, { emit: intercepted })
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

function isOptions(value: unknown): value is HpmOptions {
  return typeof value === 'object' && value !== null
}

/** The app's own request or response in place of a stand-in; anything else as it is. */
function original(value: unknown): unknown {
  if (isStandIn(value)) return value.forApp
  return value instanceof StandInRequest ? value.client : value
}

function originalRequest(req: IncomingMessage): IncomingMessage {
  // Its type does not say so.
  const given: unknown = req
  return given instanceof StandInRequest ? given.client : req
}

function originalResponse(res: ServerResponse): ServerResponse {
  return isStandIn(res) ? res.forApp : res
}

/** Parsed where it is not shown: http-proxy-middleware would parse a text for every request. */
function chosenTarget(res: unknown, isShown: boolean): HpmTarget | undefined {
  const chosen = isStandIn(res) ? res.handler.chosen : undefined
  return isShown ? chosen?.target : chosen?.parsed
}

// How long an `on.error` of the app's may take to answer in the proxy's place. The client waits for it.
const ERROR_HANDLER_MS = 5000

/** Goes on without a promise that does not settle. */
async function withinTime(answered: unknown): Promise<void> {
  if (!isThenable(answered)) return
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    const fail = () =>
      reject(new Error(`it has not settled within ${ERROR_HANDLER_MS} ms; the client is answered without it`))
    timer = setTimeout(fail, ERROR_HANDLER_MS).unref()
  })
  await Promise.race([promised(answered), late]).finally(() => clearTimeout(timer))
}
