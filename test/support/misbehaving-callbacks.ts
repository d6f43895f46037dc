// Every function that an app may give, what such a function may do that it should not, and what the client of that
// request must see then. The compiler asks for an entry for every new function among the options.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { types } from 'node:util'
import { sseProxy } from 'sse-proxy-middleware'
import { type Front, startFront } from './front.ts'
import type { SseProxy, SseProxyOptions } from './proxied.ts'
import { refusingUrl } from './several-upstreams.ts'
import { type EventStream, type Exchange, startUpstream, type Upstream } from './upstream.ts'
import { type Gate, gate, until, within } from './waiting.ts'

// biome-ignore lint/suspicious/noExplicitAny: it takes the place of every callback there is
export type Callback = (...args: any[]) => any

/** A request under way whose callback misbehaves. */
export interface Scene {
  proxy: SseProxy
  front: Front
  upstream: Upstream
  /** Event streams that the upstream has not ended. */
  held: EventStream[]
  /** Clients that are none of HTTP. */
  sockets: Socket[]
}

/** What a client sees: 'served', 'broken', a status, or for a WebSocket 'open' or 'closed'. */
export type Outcome = string

interface Entry {
  /** Options with the callback in its place. */
  options(callback: Callback, upstream: Upstream): Partial<SseProxyOptions> | Promise<Partial<SseProxyOptions>>
  /** Makes what calls it, and tells how that went; a plain request where this is absent. */
  outcome?(scene: Scene): Promise<Outcome>
  /** Gives the request to the middleware, where not as any app does. */
  mounted?(proxy: SseProxy, callback: Callback): Callback
  threw: Outcome
  rejected: Outcome
  nonsense: Outcome
  /** A promise was kept, to nothing. */
  kept: Outcome
  /** Where the request waits, its client leaves, its time ends, or the proxy is closed. */
  never: Outcome | 'waits'
  /** Where it is not this, an async function is refused. */
  isPlain?: true
  /** Where it holds up a stream, which may get too old. */
  isOfStream?: true
  /** Closing the proxy leaves it alone, as http-proxy-middleware does. */
  isWebSocket?: true
}

type AnyFunction = (...args: never[]) => unknown
type PathsOf<T, Path extends string> = T extends AnyFunction
  ? Path
  : T extends readonly (infer Item)[]
    ? PathsOf<Item, Path>
    : T extends object
      ? PathsInside<T, Path>
      : never
/** Tables whose names are the app's have no functions in them. */
type PathsInside<T, Path extends string> = string extends keyof T
  ? never
  : { [K in keyof T & string]-?: PathsOf<T[K], Path extends '' ? K : `${Path}.${K}`> }[keyof T & string]

/** Objects of Node's and of the app's, a store among them, not functions that the package calls. */
type Opaque = 'agent' | 'ssl' | 'target' | 'forward'
export type CallbackPath = Exclude<PathsOf<Omit<SseProxyOptions, Opaque>, ''>, `share.store.${string}`>

const asked = { threw: '500', rejected: '500', nonsense: '500', kept: '500', never: '500', isPlain: true } as const
const told = { threw: 'served', rejected: 'served', nonsense: 'served', kept: 'served', never: 'served' } as const
const early = { ...told, threw: '500' }
const hook = { ...told, threw: 'broken', rejected: 'broken', never: 'waits', isOfStream: true } as const
const unanswered = { threw: '502', rejected: '502', nonsense: '502', kept: '502', never: '502' } as const
const webSocket = { threw: 'closed', rejected: 'open', nonsense: 'open', kept: 'open', never: 'open' } as const

const share = { lingerMs: 0 }

export const callbacks = {
  balance: {
    ...{ ...asked, threw: '503', rejected: '503', nonsense: '503', kept: '503', never: '503' },
    options: (balance, { url }) => ({ balance, target: [`${url}/stream`, `${url}/other`] }),
  },
  'retry.commit': {
    ...{ threw: '502', rejected: '502', nonsense: '502', kept: '502', never: '502', isPlain: true },
    options: (commit) => ({ retry: { commit, backoffMs: 0 } }),
  },
  'sticky.key': { ...asked, options: (key) => ({ sticky: { key } }) },
  'limits.clientKey': { ...asked, options: (clientKey) => ({ limits: { clientKey, streamsPerClient: 9 } }) },
  'share.key': { ...asked, options: (key) => ({ share: { ...share, key } }) },
  'timeouts.lifetimeMs': {
    ...{ ...asked, threw: 'broken', rejected: 'broken', nonsense: 'broken', kept: 'broken', never: 'broken' },
    options: (lifetimeMs) => ({ timeouts: { lifetimeMs } }),
  },
  // As with http-proxy-middleware, what is not false is true.
  pathFilter: { ...asked, nonsense: 'served', options: (pathFilter) => ({ pathFilter }) },
  pathRewrite: { ...early, rejected: '500', never: 'waits', options: (pathRewrite) => ({ pathRewrite }) },
  router: { ...early, rejected: '500', nonsense: '500', never: 'waits', options: (router) => ({ router }) },
  transform: { ...hook, nonsense: 'broken', options: (transform) => ({ transform }) },
  'share.transform': { ...hook, nonsense: 'broken', options: (transform) => ({ share: { ...share, transform } }) },
  isEnd: {
    ...{ ...asked, threw: 'broken', rejected: 'broken', nonsense: 'broken', kept: 'broken', never: 'broken' },
    options: (isEnd) => ({ isEnd }),
  },
  onLost: {
    ...{ ...asked, threw: 'broken', rejected: 'broken', nonsense: 'broken', kept: 'broken', never: 'broken' },
    options: (onLost) => ({ onLost, isEnd: () => false }),
  },
  'from.toEvent': {
    ...{ ...hook, nonsense: 'broken' },
    options: (toEvent, { url }) => ({ from: { format: 'ndjson', toEvent }, target: `${url}/lines` }),
  },
  'to.format': { ...asked, options: (format) => ({ to: { format } }) },
  'to.collect': {
    ...{ ...asked, nonsense: 'empty' },
    options: (collect) => ({ to: { format: () => 'json', collect } }),
  },
  onOpen: { ...hook, options: (onOpen) => ({ onOpen }) },
  onEnd: { ...hook, options: (onEnd) => ({ onEnd }) },
  onClose: { ...told, options: (onClose) => ({ onClose }) },
  'share.onGap': {
    ...{ ...told, threw: 'broken', rejected: 'broken', nonsense: 'broken' },
    options: (onGap) => ({ share: { ...share, onGap, transform: () => undefined } }),
    outcome: gapOutcome,
  },
  plugins: { ...told, threw: 'not created', options: (plugin) => ({ plugins: [plugin] }) },
  'logger.info': { ...told, options: (info) => ({ logger: { ...silent, info } }) },
  'logger.warn': {
    ...told,
    options: (warn) => ({
      logger: { ...silent, warn },
      plugins: [(server, { logger }) => void server.on('proxyReq', () => logger?.warn('of a plugin'))],
    }),
  },
  'logger.error': {
    ...told,
    options: (error) => ({ logger: { ...silent, error }, onClose: () => Promise.reject('') }),
  },
  'on.start': { ...early, options: (start) => ({ on: { start } }) },
  'on.proxyReq': { ...early, options: (proxyReq) => ({ on: { proxyReq } }) },
  'on.proxyRes': { ...early, options: (proxyRes) => ({ on: { proxyRes } }) },
  'on.end': { ...told, options: (end) => ({ on: { end } }) },
  'on.error': {
    ...{ ...unanswered, never: 'waits' },
    options: async (error) => ({ on: { error }, target: refusingUrl }),
  },
  'on.econnreset': {
    ...{ threw: 'broken', rejected: 'broken', nonsense: 'broken', kept: 'broken', never: 'broken' },
    options: (econnreset) => ({
      on: {
        econnreset,
        proxyReq: (proxyReq, req) => {
          req.socket.end()
          proxyReq.destroy(Object.assign(new Error('reset'), { code: 'ECONNRESET' }))
        },
      },
    }),
  },
  'on.proxyReqWs': { ...webSocket, options: (proxyReqWs) => ({ on: { proxyReqWs } }), outcome: webSocketOutcome },
  'on.open': { ...webSocket, options: (open) => ({ on: { open } }), outcome: webSocketOutcome },
  'on.close': { ...webSocket, threw: 'open', options: (close) => ({ on: { close } }), outcome: webSocketOutcome },
} satisfies Record<CallbackPath, Entry>

/** The same functions where something else calls them, and one that is no option. */
const elsewhere = {
  'a listener of a plugin': {
    ...early,
    options: (listener) => ({ plugins: [(server) => void server.on('proxyReq', listener)] }),
  },
  'a plugin that listens to the end': {
    ...told,
    options: (listener) => ({ plugins: [(server) => void server.on('end', listener)] }),
  },
  'isEnd of a shared stream': {
    ...{ ...asked, threw: 'broken', rejected: 'broken', nonsense: 'broken', kept: 'broken', never: 'broken' },
    options: (isEnd) => ({ share, isEnd }),
  },
  'onLost of a shared stream': {
    ...{ ...asked, threw: 'broken', rejected: 'broken', nonsense: 'broken', kept: 'broken', never: 'broken' },
    options: (onLost) => ({ share, onLost, isEnd: () => false }),
  },
  'transform of a shared stream': { ...hook, nonsense: 'broken', options: (transform) => ({ share, transform }) },
  'onOpen of a shared stream': { ...hook, options: (onOpen) => ({ share, onOpen }) },
  'onEnd of a shared stream': { ...hook, options: (onEnd) => ({ share, onEnd }) },
  'onClose of a shared stream': { ...told, options: (onClose) => ({ share, onClose }) },
  'on.error of a WebSocket': {
    ...{ threw: 'closed', rejected: 'closed', nonsense: 'closed', kept: 'closed', never: 'closed' },
    options: async (error) => ({ on: { error }, target: refusingUrl }),
    outcome: webSocketOutcome,
  },
  'router of a WebSocket': {
    ...{ threw: 'closed', rejected: 'closed', nonsense: 'closed', kept: 'open', never: 'waits' },
    isWebSocket: true,
    options: (router) => ({ router }),
    outcome: webSocketOutcome,
  },
  'on.error after a broken stream': {
    ...{ threw: 'broken', rejected: 'broken', nonsense: 'broken', kept: 'broken', never: 'broken' },
    options: (error) => ({ on: { error }, transform: () => Promise.reject(new Error('broken')) }),
  },
  'limits.clientKey in a bare server': {
    ...asked,
    options: (clientKey) => ({ limits: { clientKey, streamsPerClient: 9 } }),
    mounted: (proxy) => (req, res) => proxy(req, res),
  },
  'pathFilter in a bare server': {
    ...{ ...asked, nonsense: 'served' },
    options: (pathFilter) => ({ pathFilter }),
    mounted: (proxy) => (req, res) => proxy(req, res),
  },
  next: {
    ...{ threw: '500', rejected: '500', nonsense: '500', kept: '500', never: '500' },
    options: () => ({ limits: { streamsPerClient: 1, clientKey: fail } }),
    mounted: (proxy, callback) => (req, res) =>
      proxy(req, res, (error) => {
        // What a host's own error handling would do, unless it throws.
        const result = callback(error)
        res.writeHead(500).end()
        return result
      }),
  },
  'next behind pathFilter': {
    ...{ threw: '500', rejected: '404', nonsense: '404', kept: '404', never: '404' },
    options: () => ({ pathFilter: () => false }),
    mounted: (proxy, callback) => (req, res) =>
      proxy(req, res, (error) => {
        const result = callback(error)
        res.writeHead(404).end()
        return result
      }),
  },
} satisfies Record<string, Entry>

export type CallbackName = keyof typeof callbacks | keyof typeof elsewhere
const entries: Record<CallbackName, Entry> = { ...callbacks, ...elsewhere }
export const callbackNames = Object.keys(entries) as CallbackName[]

const silent = { info() {}, warn() {}, error() {} }

function fail(): never {
  throw new Error('a mistake of the app')
}

/** Nothing can be read from it, and it is an error all the same. */
function unreadable(): Error {
  const lie = { get: fail }
  const error = new Error('cannot be read')
  // Node makes the text of the stack when it is first looked at.
  void error.stack
  return Object.defineProperties(error, { message: lie, stack: lie, cause: lie, code: lie, name: lie })
}

const nonsense: object = Object.create(null)

type Kind = 'threw' | 'rejected' | 'nonsense' | 'kept' | 'never'
const misbehaviours: Record<string, readonly [Kind, Callback]> = {
  'throws an error': ['threw', fail],
  'throws undefined': ['threw', throwing(undefined)],
  'throws null': ['threw', throwing(null)],
  "throws 'route'": ['threw', throwing('route')],
  'throws an object without a prototype': ['threw', throwing(nonsense)],
  'throws an error that cannot be read': ['threw', throwing(unreadable())],
  'throws what lies about its prototype': ['threw', throwing(new Proxy({}, { getPrototypeOf: fail, get: fail }))],
  'returns an object without a prototype': ['nonsense', () => nonsense],
  'is async, and throws': ['rejected', async () => fail()],
  'is async, and throws undefined': ['rejected', async () => throwing(undefined)()],
  'promises and rejects': ['rejected', () => Promise.reject(new Error('rejected'))],
  'promises and rejects later': ['rejected', rejectingLater],
  'promises and rejects with what cannot be read': ['rejected', () => Promise.reject(unreadable())],
  'returns a thenable that rejects': ['rejected', () => ({ then: (_: Callback, no: Callback) => no(new Error()) })],
  'returns a thenable that throws': ['rejected', () => ({ then: fail })],
  'returns a thenable that cannot be read': ['rejected', () => Object.defineProperty({}, 'then', { get: fail })],
  'promises and keeps it': ['kept', () => Promise.resolve()],
  'returns a thenable that resolves, twice, and rejects': ['kept', resolvingAndRejecting],
  'promises and never settles': ['never', () => new Promise(() => {})],
}

function throwing(thrown: unknown): Callback {
  return () => {
    throw thrown
  }
}

function resolvingAndRejecting(): unknown {
  return {
    then(yes: Callback, no: Callback) {
      yes(undefined)
      yes(nonsense)
      no(new Error('too late'))
    },
  }
}

// Open when it has rejected.
const later: Gate[] = []

function rejectingLater(): Promise<never> {
  const rejected = gate()
  later.push(rejected)
  return new Promise((_, reject) =>
    setTimeout(() => {
      reject(new Error('rejected'))
      rejected.open()
    }, 5),
  )
}

/** How a client is freed that waits for a callback. */
const ends: Record<string, { options?: Partial<SseProxyOptions>; end(scene: Scene): void }> = {
  'and the client leaves': {
    end: ({ front, sockets }) => {
      front.closeClients()
      for (const socket of sockets) socket.destroy()
    },
  },
  'and the proxy is closed': { end: ({ proxy }) => void proxy.close({ withinMs: 5, retryMs: 1 }) },
  'and its time is over': { options: { timeouts: { lifetimeMs: 20 } }, end: () => {} },
}

interface Case {
  entry: Entry
  callback: Callback
  expected: Outcome
  end: (typeof ends)[string] | undefined
}

function casesOf(name: CallbackName): Record<string, Case> {
  const entry = entries[name]
  const cases: Record<string, Case> = {}
  for (const [what, [kind, callback]] of Object.entries(misbehaviours)) {
    const expected = entry.isPlain && what.startsWith('is async') ? 'not created' : entry[kind]
    if (expected !== 'waits') cases[what] = { entry, callback, expected, end: undefined }
    else {
      for (const [how, end] of Object.entries(ends)) {
        if (entry.isWebSocket && how !== 'and the client leaves') continue
        if (entry.isOfStream || !end.options) cases[`${what}, ${how}`] = { entry, callback, expected, end }
      }
    }
  }
  return cases
}

export function expectedOutcomes(name: CallbackName): Record<string, Outcome> {
  return Object.fromEntries(Object.entries(casesOf(name)).map(([what, { expected }]) => [what, expected]))
}

/** Runs all of them, one after the other; what reaches the process, or stays behind, is part of the outcome. */
export async function outcomesOf(name: CallbackName): Promise<Record<string, Outcome>> {
  const outcomes: Record<string, Outcome> = {}
  for (const [what, one] of Object.entries(casesOf(name))) outcomes[what] = await watched(() => run(one))
  return outcomes
}

async function watched(work: () => Promise<Outcome>): Promise<Outcome> {
  const escaped: string[] = []
  const onUncaught = (_error: unknown, origin: string): void => void escaped.push(origin)
  const onUnhandled = (): void => void escaped.push('unhandledRejection')
  process.on('uncaughtException', onUncaught).on('unhandledRejection', onUnhandled)
  const outcome = await work().catch(({ message }: Error) => message)
  await Promise.all(later.splice(0).map(({ promise }) => promise))
  // What is not handled is told of when the microtasks are done.
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
  process.off('uncaughtException', onUncaught).off('unhandledRejection', onUnhandled)
  return [outcome, ...escaped].join(', ')
}

async function run({ entry, callback, end }: Case): Promise<Outcome> {
  const held: EventStream[] = []
  const upstream = await startUpstream({ handler: (exchange) => serve(exchange, held) })
  const called = gate()
  const watchedCallback = opening(called, callback)
  let front: Front | undefined
  try {
    const options = { ...(await entry.options(watchedCallback, upstream)), ...end?.options }
    const proxy = created({ target: `${upstream.url}/stream`, ...options })
    if (!proxy) return 'not created'
    const middleware = entry.mounted?.(proxy, watchedCallback) ?? proxy
    front = await startFront(entry.mounted ? 'http' : 'express5', middleware)
    front.server.on('upgrade', proxy.upgrade)
    const scene = { proxy, front, upstream, held, sockets: [] }
    const outcome = (entry.outcome ?? requestOutcome)(scene)
    if (!end) await outcome
    await within(called.promise, 'the callback to be called', 3000)
    if (!end) return await nothingLeft(scene, await outcome)
    // Time enough for an answer, unless its own time is over by then.
    const waits = end.options ? 'waits' : await Promise.race([outcome, roundTrip(upstream).then(() => 'waits')])
    end.end(scene)
    await outcome
    return await nothingLeft(scene, waits)
  } finally {
    await front?.close()
    await upstream.close()
  }
}

/** The same, async where it is. */
function opening(called: Gate, callback: Callback): Callback {
  const told: Callback = (...args) => {
    called.open()
    return callback(...args)
  }
  return types.isAsyncFunction(callback) ? async (...args) => told(...args) : told
}

function created(options: Partial<SseProxyOptions>): SseProxy | undefined {
  try {
    return sseProxy(options as SseProxyOptions)
  } catch {
    return undefined
  }
}

function serve(exchange: Exchange, held: EventStream[]): void {
  if (exchange.url === '/ping') return exchange.answer(200)
  if (exchange.url === '/lines') {
    return exchange.answer(200, { 'content-type': 'application/x-ndjson' }, '"data: x"\n')
  }
  const stream = exchange.stream()
  stream.send({ id: '1', data: 'x' })
  if (exchange.headers['x-request-id']) held.push(stream)
  else stream.end()
}

async function roundTrip({ url }: Upstream): Promise<void> {
  await (await fetch(`${url}/ping`)).text()
}

async function nothingLeft({ proxy, front, upstream }: Scene, outcome: Outcome): Promise<Outcome> {
  front.closeClients()
  const left = (): number[] => {
    const { active, upstreams, shared } = proxy.stats()
    return [active, shared.streams, upstream.open, ...upstreams.map((one) => one.active)]
  }
  await until(
    () => left().every((count) => count === 0),
    () => `${outcome}, and for nothing to be left of ${left()}`,
    3000,
  )
  return outcome
}

async function requestOutcome({ front }: Scene): Promise<Outcome> {
  const client = front.request()
  const ending = await client.ended(3000)
  if (!client.hasHead || ending !== 'clean') return 'broken'
  if (client.status !== 200) return String(client.status)
  return client.text.includes('data: x') ? 'served' : 'empty'
}

/** A client that comes back with an id that nobody knows. */
async function gapOutcome({ front, upstream, held }: Scene): Promise<Outcome> {
  const opener = front.request('', { headers: { 'x-request-id': '1' } })
  await opener.waitFor('data: x')
  const follower = front.request('', { headers: { 'last-event-id': 'gone' } })
  await until(() => follower.ending !== undefined || follower.text.includes('data: x'), 'what the follower gets', 3000)
  await Promise.all(later.map(({ promise }) => promise))
  await roundTrip(upstream)
  held[0]?.end()
  const ending = await follower.ended(3000)
  return ending === 'clean' && follower.text.includes('data: x') ? 'served' : 'broken'
}

async function webSocketOutcome({ front, upstream, sockets }: Scene): Promise<Outcome> {
  upstream.server.on('upgrade', (_req, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
    socket.on('data', (bytes: Buffer) => socket.end(bytes)).on('error', () => {})
  })
  const socket = connect(front.port, '127.0.0.1').on('error', () => {})
  sockets.push(socket)
  socket.write('GET /events HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
  let text = ''
  socket.setEncoding('latin1').on('data', (part: string) => {
    if (text === '') socket.write('ping')
    text += part
  })
  await within(once(socket, 'close'), () => `the end of the WebSocket after ${text}`, 3000)
  return text.endsWith('ping') ? 'open' : 'closed'
}
