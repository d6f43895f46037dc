// A gateway in front of an LLM provider. The provider's key stays here, users come with tokens of their own; what they
// use is counted from the usage event, what they must not see is taken out of the answer, and a user who leaves stops
// the provider from making more tokens. Works with the official `openai` client.
//
//   node --import tsx demo/recipes/llm-gateway.ts
//   curl -N http://127.0.0.1:3000/v1/chat/completions -H 'authorization: Bearer ada-token' \
//     -H 'content-type: application/json' -d '{"model":"demo","stream":true,"messages":[]}'
import { createServer } from 'node:http'
import express, { type NextFunction, type Request, type Response } from 'express'
import { type StreamEvent, sseProxy, type TransformHook } from 'sse-proxy-middleware'
import { type Listening, listen } from './support/listen.ts'
import { type Provider, startProvider } from './support/openai-provider.ts'
import { runAlone } from './support/run-alone.ts'

const users = new Map([
  ['Bearer ada-token', 'ada'],
  ['Bearer grace-token', 'grace'],
])

function requireUser(req: Request, res: Response, next: NextFunction): void {
  res.locals.user = users.get(req.headers.authorization ?? '')
  if (res.locals.user) next()
  else res.status(401).json({ error: { message: 'unknown token', type: 'invalid_request_error' } })
}

/** The provider tells the usage of a stream only to those who ask. */
function askForUsage(req: Request, _res: Response, next: NextFunction): void {
  if (req.body?.stream) req.body.stream_options = { ...req.body.stream_options, include_usage: true }
  next()
}

/** An e-mail address may come in several tokens, so text is held back until its word is complete. */
const redact: TransformHook<Request> = (event, { locals }) => {
  const chunk = parsed(event)
  const choice = chunk?.choices?.[0]
  if (!choice) return
  const text = `${locals.held ?? ''}${choice.delta?.content ?? ''}`
  const end = choice.finish_reason ? text.length : text.search(/\S*$/)
  locals.held = text.slice(end)
  if (end === 0 && !choice.finish_reason) return null
  const content = text.slice(0, end).replace(/\S+@\S+\.\w+/g, '[removed]')
  return withData(event, { ...chunk, choices: [{ ...choice, delta: { ...choice.delta, content } }] })
}

/** Not every event is JSON: `[DONE]` is none, and neither is what gateways on the way add. */
function parsed({ data }: StreamEvent) {
  try {
    return JSON.parse(data)
  } catch {
    return undefined
  }
}

function withData(event: StreamEvent, data: unknown): StreamEvent {
  return { ...event, data: JSON.stringify(data) }
}

export interface LlmGateway extends Listening {
  /** Tokens of a user's so far. */
  tokensOf(user: string): number
  readonly provider: Omit<Provider, keyof Listening>
}

export interface LlmGatewayOptions {
  port?: number
  answer?: string
  everyMs?: number
}

export async function start({
  port = 0,
  answer = 'Write to ada@example.org or call. '.repeat(20),
  everyMs = 20,
}: LlmGatewayOptions = {}): Promise<LlmGateway> {
  const provider = await startProvider({ answer, everyMs })
  const spent = new Map<string, number>()

  /** Counts what a stream cost: the provider's own figure, or, for a user who left before it, the chunks that came. */
  const count: TransformHook<Request> = (event, { locals }) => {
    const usage = parsed(event)?.usage
    if (usage) locals.tokens = usage.total_tokens
  }

  const chat = sseProxy<Request, Response>({
    name: 'llm',
    target: provider.url,
    // Takes the place of the user's token.
    headers: { authorization: 'Bearer the-key-of-the-provider' },
    transform: [count, redact],
    onClose({ req, locals, events }) {
      const user = req.res?.locals.user
      spent.set(user, (spent.get(user) ?? 0) + Number(locals.tokens ?? events))
    },
  })

  const app = express()
  app.post('/v1/chat/completions', requireUser, express.json({ limit: '10mb' }), askForUsage, chat)

  const front = await listen(createServer(app), port)
  return {
    url: front.url,
    provider,
    tokensOf: (user) => spent.get(user) ?? 0,
    async close() {
      await front.close()
      await provider.close()
    },
  }
}

await runAlone(import.meta.url, start)
