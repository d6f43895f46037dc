// Connections without TLS, at the price of connections. Node's agents copy all options of a request twice for each, headers
// included, and keep a copy and four listeners for as long as it is open; a stream may be open for days. Here a connection
// becomes a part of Node's pool when it is free for another request, and not before.
//
// How a request asks its agent is not documented, though Node takes any object that has `addRequest` for an agent. Where that
// or `createSocket` is missing, the rest stays as Node has it.

import http, { type ClientRequest, type ClientRequestArgs } from 'node:http'
import { connect, type Socket, type TcpSocketConnectOpts } from 'node:net'
import { connectLending } from '../read-buffer.ts'
import { UPSTREAM_SILENCE_MS } from '../tcp-keepalive.ts'

export class PlainAgent extends http.Agent {
  // Connections of their first request, which the pool does not know, and what each was made of.
  readonly #first = new Map<Socket, ConnectionOptions>()
  // What the pool gets when it asks for a new connection.
  #freed: Socket | undefined
  // The listeners of all those connections. The first call of one is the last.
  readonly #onFree: (this: Socket) => void
  readonly #onClose: (this: Socket) => void

  readonly #lendsReads: boolean

  /** @param lendsReads whether what connections read can be borrowed */
  constructor(options: http.AgentOptions, lendsReads: boolean) {
    super(options)
    this.#lendsReads = lendsReads
    const agent = this
    this.#onFree = function () {
      agent.#keep(this)
    }
    this.#onClose = function () {
      agent.#first.delete(this)
    }
  }

  /** Whether connections are in their first request, which `sockets` does not show. */
  get hasFirstRequests(): boolean {
    return this.#first.size > 0
  }

  /** What a request calls that was given this agent. */
  addRequest(request: ClientRequest, options: ClientRequestArgs): void {
    const ask = inherited('addRequest')
    if (ask && this.freeSockets[this.getName(options)]) return void Reflect.apply(ask, this, [request, options])
    const own = connectionOptions(options)
    const where = own.socketPath === undefined ? own : { ...own, path: own.socketPath }
    const socket = this.#lendsReads ? connectLending((onread) => connect({ ...where, onread })) : connect(where)
    this.#first.set(socket, own)
    socket.on('free', this.#onFree).on('close', this.#onClose)
    request.onSocket(socket)
  }

  override createConnection(
    ...args: Parameters<http.Agent['createConnection']>
  ): ReturnType<http.Agent['createConnection']> {
    const freed = this.#freed
    this.#freed = undefined
    return freed ?? super.createConnection(...args)
  }

  override destroy(): void {
    for (const socket of this.#first.keys()) socket.destroy()
    super.destroy()
  }

  /** Hands a connection over to the pool, which decides whether to keep it. */
  #keep(socket: Socket): void {
    const own = this.#first.get(socket)
    this.#first.delete(socket)
    socket.off('free', this.#onFree).off('close', this.#onClose)
    const add = inherited('createSocket')
    if (!own || !socket.writable || !add || !inherited('addRequest')) return void socket.destroy()
    this.#freed = socket
    Reflect.apply(add, this, [{}, own, () => socket.emit('free')])
    // Not asked for, it would be given to another request, wherever that leads.
    if (this.#freed) socket.destroy()
    this.#freed = undefined
  }
}

type ConnectionOptions = TcpSocketConnectOpts & Pick<ClientRequestArgs, 'socketPath'> & { readonly servername: string }

/** What of a request's options concerns its connection. The name by which the pool knows that is made of these. */
function connectionOptions(options: ClientRequestArgs): ConnectionOptions {
  const { host, port, socketPath, localAddress, localPort, family, hints, lookup } = options
  return {
    host: host ?? undefined,
    port: Number(port),
    socketPath,
    localAddress,
    localPort,
    family,
    hints,
    lookup,
    // As Node's agents have it.
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: UPSTREAM_SILENCE_MS,
    servername: '',
  }
}

function inherited(name: 'addRequest' | 'createSocket'): Method | undefined {
  const method: unknown = Reflect.get(http.Agent.prototype, name)
  return isMethod(method) ? method : undefined
}

type Method = (...args: unknown[]) => unknown

function isMethod(value: unknown): value is Method {
  return typeof value === 'function'
}
