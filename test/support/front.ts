// The hosts a middleware may live in, behind one function: each mounts it at a path, with other middlewares before it.
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { createSecureServer } from 'node:http2'
import type { AddressInfo, Server, Socket } from 'node:net'
import type { TlsOptions } from 'node:tls'
import type { NextHandleFunction } from 'connect'
import type { Express, NextFunction, Request, Response } from 'express'
import { certificate } from './certificate.ts'
import { type Client, type Protocol, type RequestOptions, request } from './client.ts'

export const hosts = ['express5', 'express4', 'connect', 'http', 'connect over http2', 'express5 over http2'] as const
export type Host = (typeof hosts)[number]

/** One host for each protocol, for the tests that are about the protocol and not about the framework. */
export const hostsByProtocol = ['express5', 'connect over http2'] as const

/** Any middleware of the Connect kind; the types of Express, Connect and Node agree on nothing narrower. */
// biome-ignore lint/suspicious/noExplicitAny: each host has its own types for request and response
export type Middleware = (req: any, res: any, next: (error?: unknown) => void) => unknown

export interface FrontOptions {
  /** Where the middleware is mounted. */
  mount?: string
  before?: Middleware[]
  /** Beside the certificate of the hosts that speak HTTP/2. */
  tls?: TlsOptions
}

/** The hosts that speak HTTP/2 do so by default; they take HTTP/1.1 as well. */
export function protocolOf(host: Host): Protocol {
  return host.endsWith('http2') ? 'h2' : 'http/1.1'
}

export class Front {
  readonly server: Server
  readonly origin: string
  readonly port: number
  readonly mount: string
  readonly protocol: Protocol
  /** What reached the host's own error handling. */
  readonly errors: unknown[]
  readonly #sockets = new Set<Socket>()
  readonly #clients: Client[] = []

  constructor(server: Server, host: Host, mount: string, errors: unknown[]) {
    this.server = server
    this.protocol = protocolOf(host)
    this.port = (server.address() as AddressInfo).port
    this.origin = this.protocol === 'h2' ? `https://localhost:${this.port}` : `http://127.0.0.1:${this.port}`
    this.mount = mount
    this.errors = errors
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
    })
  }

  /** Where the middleware is mounted, as a whole URL. */
  get url(): string {
    return this.origin + this.mount
  }

  /** Live client connections. */
  get connections(): number {
    return this.#sockets.size
  }

  /** Sends a request to the middleware; `path` follows the mount path. */
  request(path: string = '', options: RequestOptions = {}): Client {
    const client = request(this.url + path, { protocol: this.protocol, ...options })
    this.#clients.push(client)
    return client
  }

  open(path: string = '', options: RequestOptions = {}): Promise<Client> {
    return this.request(path, options).head()
  }

  closeClients(): void {
    for (const client of this.#clients) client.close()
  }

  async close(): Promise<void> {
    this.closeClients()
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.server.close(resolve))
  }
}

export async function startFront(host: Host, middleware: Middleware, options: FrontOptions = {}): Promise<Front> {
  const { mount = '/events', before = [], tls = {} } = options
  const errors: unknown[] = []
  const listener = await listeners[host]({ mount, before, middleware, errors })
  const server: Server =
    protocolOf(host) === 'h2'
      ? (createSecureServer({ ...certificate, ...tls, allowHTTP1: true }, listener as never) as unknown as Server)
      : createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return new Front(server, host, mount, errors)
}

interface Mounting {
  mount: string
  before: Middleware[]
  middleware: Middleware
  errors: unknown[]
}

// A framework is loaded by the tests that use it: most files need one of them.
const listeners: Record<Host, (mounting: Mounting) => RequestListener | Promise<RequestListener>> = {
  express5: async (mounting) => expressApp((await import('express')).default(), mounting),
  express4: async (mounting) => expressApp((await import('express4')).default(), mounting),
  'express5 over http2': async (mounting) => {
    const [{ default: express }, { default: http2Express }] = await Promise.all([
      import('express'),
      import('http2-express'),
    ])
    return expressApp(http2Express(express), mounting)
  },
  connect: connectApp,
  'connect over http2': connectApp,
  http: bareListener,
}

function expressApp(app: Express, { mount, before, middleware, errors }: Mounting): RequestListener {
  app.use(mount, ...before, middleware)
  app.use((error: unknown, _req: Request, res: Response, _next: NextFunction) => {
    errors.push(error)
    if (!res.headersSent) res.status(500).end('the host caught an error')
  })
  return app
}

async function connectApp({ mount, before, middleware, errors }: Mounting): Promise<RequestListener> {
  const { default: connect } = await import('connect')
  const app = connect()
  for (const handler of [...before, middleware]) app.use(mount, handler as NextHandleFunction)
  app.use((error: unknown, _req: IncomingMessage, res: ServerResponse, _next: unknown) => {
    errors.push(error)
    if (!res.headersSent) res.writeHead(500)
    res.end('the host caught an error')
  })
  return app
}

/** What a program without a framework does: look at the path, cut the mount off, call one after the other. */
function bareListener({ mount, before, middleware, errors }: Mounting): RequestListener {
  return (req, res) => {
    const url = req.url ?? ''
    const rest = url.slice(mount.length)
    if (!url.startsWith(mount) || !(rest === '' || rest.startsWith('/') || rest.startsWith('?'))) {
      res.writeHead(404).end()
      return
    }
    req.url = rest.startsWith('/') ? rest : `/${rest}`
    const queue = [...before, middleware]
    const next = (error?: unknown): void => {
      const handler = queue.shift()
      if (error === undefined && handler) return void handler(req, res, next)
      if (error !== undefined) errors.push(error)
      if (!res.headersSent) res.writeHead(error === undefined ? 404 : 500).end()
    }
    next()
  }
}
