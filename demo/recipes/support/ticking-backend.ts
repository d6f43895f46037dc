// The simplest backend of an event stream: it counts, and goes on from the id that a client has seen last.
import { createServer } from 'node:http'
import { type Listening, listen } from './listen.ts'

export interface TickingBackend extends Listening {
  /** Open streams. */
  readonly open: number
  /** Ends every stream in the middle of an event, as a crash does. */
  crash(): void
}

export async function startTickingBackend(name: string = 'backend', everyMs: number = 100): Promise<TickingBackend> {
  const crashes = new Set<() => void>()
  const server = createServer((req, res) => {
    let n = Number(req.headers['last-event-id'] ?? 0)
    res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    res.flushHeaders()
    const timer = setInterval(() => {
      n += 1
      res.write(`id: ${n}\ndata: ${JSON.stringify({ n, from: name })}\n\n`)
    }, everyMs)
    const crash = () => {
      clearInterval(timer)
      res.write(`id: ${n + 1}\ndata: {"n":`, () => req.socket.resetAndDestroy())
    }
    crashes.add(crash)
    res.once('close', () => {
      clearInterval(timer)
      crashes.delete(crash)
    })
  })
  const listening = await listen(server)
  return {
    ...listening,
    get open() {
      return crashes.size
    },
    crash() {
      for (const crash of crashes) crash()
    },
  }
}
