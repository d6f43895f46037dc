// Chat routes on which half an answer never passes for a whole one. A provider that stops in the middle, even with a clean
// end, is found out by the event that ends every whole answer; the client is told in its own format, and then its transfer
// breaks: the official `openai` client throws, and `useChat` of the `ai` package shows its error.
//
//   node --import tsx demo/recipes/whole-answers.ts
//   curl -N http://127.0.0.1:3000/v1/chat/completions -H 'content-type: application/json' -d '{}'
import { createServer, type ServerResponse } from 'node:http'
import express from 'express'
import { sseProxy } from 'sse-proxy-middleware'
import { type Listening, listen } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'

/** Both formats end like this. */
const isEnd = ({ data }: { data: string }) => data === '[DONE]'

const sorry = 'The answer is not complete. Please ask again.'

export interface WholeAnswers extends Listening {
  /** The provider itself, for who wants to see what becomes of its answers without the proxy. */
  readonly providerUrl: string
}

export interface WholeAnswersOptions {
  port?: number
  answer?: string
  /** After so many words the provider stops, with a clean end. */
  wordsMade?: number
}

export async function start({
  port = 0,
  answer = 'Half of this is not the answer.',
  wordsMade = 3,
}: WholeAnswersOptions = {}): Promise<WholeAnswers> {
  const words = answer.split(/(?<= )/)
  const made = words.slice(0, wordsMade)
  const isWhole = made.length === words.length
  const provider = await listen(
    createServer((req, res) => {
      req.resume()
      req.once('end', () => (req.url === '/api/chat' ? uiMessages : completions)(res, made, isWhole))
    }),
  )

  const app = express()
  app.post(
    '/v1/chat/completions',
    sseProxy({
      name: 'completions',
      target: provider.url,
      isEnd,
      onLost: ({ code }) => ({ data: JSON.stringify({ error: { message: sorry, type: 'server_error', code } }) }),
    }),
  )
  app.post(
    '/api/chat',
    sseProxy({
      name: 'chat',
      target: provider.url,
      isEnd,
      onLost: () => ({ data: JSON.stringify({ type: 'error', errorText: sorry }) }),
    }),
  )

  const front = await listen(createServer(app), port)
  return {
    url: front.url,
    providerUrl: provider.url,
    async close() {
      await front.close()
      await provider.close()
    },
  }
}

/** OpenAI's wire format. */
function completions(res: ServerResponse, words: string[], isWhole: boolean): void {
  const chunk = (delta: object, finish_reason: string | null) =>
    write(res, { id: 'chatcmpl-1', object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason }] })
  res.writeHead(200, { 'content-type': 'text/event-stream' })
  for (const content of words) chunk({ content }, null)
  if (isWhole) chunk({}, 'stop')
  res.end(isWhole ? 'data: [DONE]\n\n' : '')
}

/** The stream of messages that `useChat` reads. */
function uiMessages(res: ServerResponse, words: string[], isWhole: boolean): void {
  res.writeHead(200, { 'content-type': 'text/event-stream', 'x-vercel-ai-ui-message-stream': 'v1' })
  write(res, { type: 'start' })
  write(res, { type: 'text-start', id: '1' })
  for (const delta of words) write(res, { type: 'text-delta', id: '1', delta })
  if (isWhole) for (const event of [{ type: 'text-end', id: '1' }, { type: 'finish' }]) write(res, event)
  res.end(isWhole ? 'data: [DONE]\n\n' : '')
}

function write(res: ServerResponse, data: object): void {
  res.write(`data: ${JSON.stringify(data)}\n\n`)
}

await runAlone(import.meta.url, start)
