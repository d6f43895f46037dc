// A chat whose answers survive a reload of the page. The question opens the provider's stream; who reloads, opens a second
// tab or takes up the phone gets the answer from its start, while it is made and for five minutes afterwards; only Stop
// stops it. Neither the provider nor the client knows of it: `useChat({ resume: true })` of the `ai` package asks as below.
//
//   node --import tsx demo/recipes/chat-that-survives.ts
//   curl -N http://127.0.0.1:3000/api/chat -H 'authorization: Bearer ada-token' -H 'content-type: application/json' -d '{"id":"7"}'
//   curl -N http://127.0.0.1:3000/api/chat/7/stream -H 'authorization: Bearer ada-token'             # reads along
//   curl -X DELETE http://127.0.0.1:3000/api/chat/7/stream -H 'authorization: Bearer ada-token' -i   # stops it
import { createServer } from 'node:http'
import express, { type NextFunction, type Request, type Response } from 'express'
import { sseProxy } from 'sse-proxy-middleware'
import { type Listening, listen } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'

const users = new Map([
  ['Bearer ada-token', 'ada'],
  ['Bearer grace-token', 'grace'],
])

function requireUser(req: Request, res: Response, next: NextFunction): void {
  res.locals.user = users.get(req.headers.authorization ?? '')
  if (res.locals.user) next()
  else res.sendStatus(401)
}

/** Who the user is comes first: a chat's id alone would give the answer to whoever guesses it. Without a chat nothing is shared. */
function keyOf(req: Request): string | undefined {
  const chat: unknown = req.body?.id ?? req.url.split('/')[1]
  return typeof chat === 'string' && chat !== '' ? JSON.stringify([req.res?.locals.user, chat]) : undefined
}

export interface ChatThatSurvives extends Listening {
  /** Words that the provider has made. */
  readonly made: number
  /** Answers that have passed to their end, read or not, by user. */
  readonly answered: readonly string[]
}

export interface ChatThatSurvivesOptions {
  port?: number
  answer?: string
  everyMs?: number
}

export async function start({
  port = 0,
  answer = 'You may reload this page, and the answer goes on. '.repeat(20),
  everyMs = 100,
}: ChatThatSurvivesOptions = {}): Promise<ChatThatSurvives> {
  const provider = await startProvider(answer.split(/(?<= )/), everyMs)
  const answered: string[] = []

  const chat = sseProxy<Request, Response>({
    name: 'chat',
    target: `${provider.url}/api/chat`,
    share: {
      key: keyOf,
      open: ['POST'],
      join: ['GET'],
      stop: ['DELETE'],
      lingerMs: Number.POSITIVE_INFINITY,
      keepEndedMs: 300_000,
      // The whole of a long answer has to be kept, or who comes late gets its end alone.
      replay: { ids: 'assign', initial: 'all', events: 20_000, bytes: 4 * 2 ** 20, ageMs: 3_600_000 },
    },
    // An answer that nobody limits goes on for ever where nobody reads it, and one user could take all places.
    limits: { streams: 1000, streamsPerClient: 10, clientKey: (req) => req.res?.locals.user },
    timeouts: { eventMs: 60_000 },
    isEnd: ({ data }) => data === '[DONE]',
    onLost: () => ({ data: JSON.stringify({ type: 'error', errorText: 'The answer is not complete.' }) }),
    transform: ({ data }, { req }) => {
      if (data === '[DONE]') answered.push(req.res?.locals.user)
    },
  })

  const app = express()
  app.use('/api/chat', requireUser, express.json({ limit: '10mb' }), chat)

  const front = await listen(createServer(app), port)
  return {
    url: front.url,
    answered,
    get made() {
      return provider.made
    },
    async close() {
      await chat.close({ withinMs: 0 })
      await front.close()
      await provider.close()
    },
  }
}

/** Answers in the format that `useChat` reads, a word at a time. */
async function startProvider(words: string[], everyMs: number): Promise<Listening & { readonly made: number }> {
  let made = 0
  const listening = await listen(
    createServer((req, res) => {
      const send = (chunk: object) => res.write(`data: ${JSON.stringify(chunk)}\n\n`)
      const left = [...words]
      req.resume()
      res.writeHead(200, { 'content-type': 'text/event-stream', 'x-vercel-ai-ui-message-stream': 'v1' })
      for (const chunk of [{ type: 'start' }, { type: 'text-start', id: '1' }]) send(chunk)
      const timer = setInterval(() => {
        const delta = left.shift()
        if (delta !== undefined) {
          made += 1
          return void send({ type: 'text-delta', id: '1', delta })
        }
        clearInterval(timer)
        for (const chunk of [{ type: 'text-end', id: '1' }, { type: 'finish' }]) send(chunk)
        res.end('data: [DONE]\n\n')
      }, everyMs)
      res.once('close', () => clearInterval(timer))
    }),
  )
  return {
    ...listening,
    get made() {
      return made
    },
  }
}

await runAlone(import.meta.url, start)
