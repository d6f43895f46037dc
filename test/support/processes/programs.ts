// Programs of documents, one after the other, each until all its servers answer. Ports are of the system's choice;
// what a page has is there for those that run in one, and an address without a host is that of a small backend.
import { createServer } from 'node:http'
import { type AddressInfo, Server } from 'node:net'
import { pathToFileURL } from 'node:url'
import { EventSource } from 'eventsource'
import { until, within } from '../waiting.ts'
import { answer } from './child.ts'

/** A program that was run, and what went wrong. */
export interface Ran {
  place: string
  error?: string
}

/** A program that is to be run. */
export interface Runnable {
  place: string
  file: string
  /** Whether it runs in a page, and logs the event that it gets. */
  isPage: boolean
}

// A framework loads slowly where other tests take the processors.
const WAIT_MS = 40_000

const errors: unknown[] = []
const logged: string[] = []
let servers: Server[] = []

process.on('uncaughtException', (error) => errors.push(error))
process.on('unhandledRejection', (error) => errors.push(error))
console.log = (...values) => void logged.push(values.join(' '))

const backend = createServer((_req, res) => {
  res.writeHead(200, { 'content-type': 'text/event-stream' }).end('id: 1\ndata: hello\n\n')
})
await new Promise<void>((resolve) => backend.listen(0, '127.0.0.1', resolve))
const origin = `http://127.0.0.1:${(backend.address() as AddressInfo).port}`

const plainFetch = fetch
Object.assign(globalThis, {
  EventSource: class extends EventSource {
    constructor(url: string) {
      super(new URL(url, origin))
    }
  },
  fetch: (url: string, options?: RequestInit) => plainFetch(new URL(url, origin), options),
})

const { listen } = Server.prototype
Server.prototype.listen = function (this: Server, ...args: unknown[]): Server {
  servers.push(this)
  const onListening = args.find((arg) => typeof arg === 'function')
  return Reflect.apply(listen, this, [0, '127.0.0.1', onListening])
}

answer({
  async run(programs: readonly Runnable[]): Promise<Ran[]> {
    const ran: Ran[] = []
    for (const { place, file, isPage } of programs) {
      errors.length = 0
      logged.length = 0
      servers = []
      try {
        await within(import(pathToFileURL(file).href), 'its last line', WAIT_MS)
        for (const server of servers) await answers(server)
        if (isPage) await until(() => logged.some((line) => line.includes('hello')), 'an event to be logged', WAIT_MS)
        if (errors.length > 0) throw errors[0]
        ran.push({ place })
      } catch (error) {
        ran.push({ place, error: error instanceof Error ? String(error.stack) : String(error) })
      }
      for (const server of servers) server.close()
    }
    return ran
  },
})

/** Whatever it says, it is there. */
async function answers(server: Server): Promise<void> {
  await until(() => server.listening, 'its server to listen', WAIT_MS)
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  const signal = AbortSignal.timeout(WAIT_MS)
  const { body } = await plainFetch(url, { signal })
  await body?.cancel()
}
