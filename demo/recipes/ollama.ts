// Ollama's API for browsers too: it answers with lines of JSON, which become an event stream for whoever asks for events, and
// stay lines for the `ollama` client. An answer that breaks off before its last line breaks for both.
//
//   node --import tsx demo/recipes/ollama.ts
//   curl -N http://127.0.0.1:3000/api/chat -H 'accept: text/event-stream' -d '{"model":"demo","messages":[]}'
import { createServer } from 'node:http'
import express, { type Request, type Response } from 'express'
import { sseProxy } from 'sse-proxy-middleware'
import { type Listening, listen } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'

export interface OllamaGateway extends Listening {
  /** Answers that Ollama is giving. */
  readonly answering: number
}

export interface OllamaOptions {
  port?: number
  /** What Ollama says, a word a line. */
  words?: string[]
  /** Whether it stops in the middle, and looks finished. */
  isCut?: boolean
}

export async function start({ port = 0, ...says }: OllamaOptions = {}): Promise<OllamaGateway> {
  const ollama = await startOllama(says)

  const app = express()
  app.use(
    '/api',
    sseProxy<Request, Response>({
      target: `${ollama.url}/api`,
      from: 'ndjson',
      to: {
        format: (req) =>
          req.accepts('application/json', 'text/event-stream') === 'text/event-stream' ? 'event-stream' : 'ndjson',
      },
      // `done` ends a chat, `status: success` a pull.
      isEnd: ({ data }) => {
        const { done, status } = JSON.parse(data)
        return done === true || status === 'success'
      },
    }),
  )

  const front = await listen(createServer(app), port)
  return {
    url: front.url,
    get answering() {
      return ollama.answering
    },
    async close() {
      await front.close()
      await ollama.close()
    },
  }
}

/** What of Ollama's API a chat needs. */
async function startOllama({
  words = ['Lines ', 'of ', 'JSON.'],
  isCut = false,
}: Omit<OllamaOptions, 'port'>): Promise<OllamaGateway> {
  let answering = 0
  const listening = await listen(
    createServer(async (req, res) => {
      let body = ''
      for await (const part of req.setEncoding('utf8')) body += part
      const { stream = true, model } = JSON.parse(body)
      const said = (content: string, done: boolean) => ({ model, message: { role: 'assistant', content }, done })
      if (!stream) {
        res.writeHead(200, { 'content-type': 'application/json; charset=utf-8' })
        return void res.end(JSON.stringify(said(words.join(''), true)))
      }
      res.writeHead(200, { 'content-type': 'application/x-ndjson' })
      const left = [...words]
      answering += 1
      const timer = setInterval(() => {
        const word = left.shift()
        if (word !== undefined) return void res.write(`${JSON.stringify(said(word, false))}\n`)
        clearInterval(timer)
        res.end(isCut ? '' : `${JSON.stringify(said('', true))}\n`)
      }, 20)
      res.once('close', () => {
        clearInterval(timer)
        answering -= 1
      })
    }),
  )
  return {
    ...listening,
    get answering() {
      return answering
    },
  }
}

await runAlone(
  import.meta.url,
  start,
  (url) => `curl -N ${url}/api/chat -H 'accept: text/event-stream' -d '{"model":"demo","messages":[]}'`,
)
