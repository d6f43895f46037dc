// Connections at the price of connections. Node's agents copy all options of a request for each, headers included, and
// keep a copy and four listeners for as long as it is open; a stream may be open for days. Here a connection becomes a
// part of Node's pool when it is to be used again, and not before.
//
// How agents and requests work together is not documented, though other agents have always relied on it. It is looked
// for, and where a part of it is missing, the rest stays as Node has it.

import http, { type ClientRequest } from 'node:http'
import type { Socket } from 'node:net'
import { UPSTREAM_SILENCE_MS } from '../tcp-keepalive.ts'

type Options = Record<string, unknown>

interface Undocumented {
  readonly addRequest?: (request: ClientRequest, options: Options, ...rest: unknown[]) => void
  /** Makes a connection, and it a part of the pool. */
  readonly createSocket?: (request: object, options: Options, made: () => void) => void
}

const inherited = http.Agent.prototype as Undocumented

const OF_THE_REQUEST = new Set(['agent', 'auth', 'headers', 'hostname', 'method', 'path'])

/** Of a request's options those only that may mean something to a connection. */
export function ofConnection(options: Options): Options {
  const kept: Options = {}
  for (const name of Object.keys(options)) {
    if (options[name] !== undefined && !OF_THE_REQUEST.has(name)) kept[name] = options[name]
  }
  return kept
}

/** Where connections lead. */
interface Origin {
  readonly name: string
  readonly options: Options
  /** One of them can be used again. */
  readonly onFree: (this: Socket) => void
}

// A router may know more of them than are worth remembering.
const MAX_ORIGINS = 1000

/** Its `destroy` ends what is in the pool; connections of their first request end with that. */
export class LeanAgent extends http.Agent {
  readonly #origins = new Map<string, Origin>()
  // What the pool gets when it asks for a new one.
  #freed: Socket | undefined

  constructor() {
    super({ keepAlive: true, keepAliveMsecs: UPSTREAM_SILENCE_MS, maxSockets: Number.POSITIVE_INFINITY })
  }

  /** What a request calls that was given this agent. */
  addRequest(request: ClientRequest, options: Options, ...rest: unknown[]): void {
    const origin = this.#originOf(options)
    const leavesItToNode = this.freeSockets[origin.name] !== undefined || typeof request.onSocket !== 'function'
    if (leavesItToNode && inherited.addRequest) return inherited.addRequest.call(this, request, origin.options, ...rest)
    const socket = this.createConnection(origin.options) as Socket
    socket.on('free', origin.onFree)
    request.onSocket(socket)
  }

  override createConnection(
    ...args: Parameters<http.Agent['createConnection']>
  ): ReturnType<http.Agent['createConnection']> {
    const freed = this.#freed
    this.#freed = undefined
    return freed ?? super.createConnection(...args)
  }

  /** What its name does not tell is the same for all requests of a proxy, so it is made once. */
  #originOf(options: Options): Origin {
    const name = this.getName(options)
    const known = this.#origins.get(name)
    if (known) return known
    if (this.#origins.size === MAX_ORIGINS) this.#origins.clear()
    const agent = this
    const origin = {
      name,
      options: {
        ...ofConnection(options),
        ...(options.socketPath !== undefined && { path: options.socketPath }),
        // As Node's agents have it.
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: UPSTREAM_SILENCE_MS,
        servername: '',
      },
      onFree(this: Socket): void {
        agent.#keep(this, origin)
      },
    }
    this.#origins.set(name, origin)
    return origin
  }

  #keep(socket: Socket, { options, onFree }: Origin): void {
    socket.off('free', onFree)
    if (!socket.writable || !inherited.createSocket || !inherited.addRequest) return void socket.destroy()
    this.#freed = socket
    inherited.createSocket.call(this, {}, options, () => socket.emit('free'))
  }
}
