// A stand-in for a provider that says to each POST what it is told to say, in whatever format.
import { createServer, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import { type Listening, listen } from './listen.ts'

/** An answer: an event stream where the status is 200, else JSON. */
export interface Script {
  status?: number
  headers?: Record<string, string>
  body: string
}

export interface ScriptedProvider extends Listening {
  /** What came: the headers and the bodies of the requests. */
  readonly asked: readonly { headers: IncomingHttpHeaders; body: string }[]
}

/** Two providers and the proxy before them. */
export interface Failover extends Listening {
  readonly providers: readonly [ScriptedProvider, ScriptedProvider]
}

export interface FailoverOptions {
  port?: number
  /** What the two providers say. */
  first?: Script
  second?: Script
}

export async function startScriptedProvider({ status = 200, headers = {}, body }: Script): Promise<ScriptedProvider> {
  const asked: { headers: IncomingHttpHeaders; body: string }[] = []
  const server = createServer(async (req, res) => {
    asked.push({ headers: req.headers, body: await textOf(req) })
    const type = status === 200 ? 'text/event-stream' : 'application/json'
    res.writeHead(status, { 'content-type': type, ...headers }).end(body)
  })
  return { ...(await listen(server)), asked }
}

async function textOf(req: IncomingMessage): Promise<string> {
  let text = ''
  for await (const part of req.setEncoding('utf8')) text += part
  return text
}

/** Events in the format of OpenAI's chat completions, with what comes before the first word and behind the last. */
export function chatChunks(words: string): string {
  const chunk = (delta: object, finish: string | null = null) =>
    `data: ${JSON.stringify({
      id: 'chatcmpl-1',
      object: 'chat.completion.chunk',
      created: 0,
      model: 'demo',
      choices: [{ index: 0, delta, finish_reason: finish }],
    })}\n\n`
  const said = words.split(/(?<= )/).map((content) => chunk({ content }))
  return [chunk({ role: 'assistant', content: '' }), ...said, chunk({}, 'stop'), 'data: [DONE]\n\n'].join('')
}

/** Events in the format of Anthropic's messages. */
export function messageEvents(words: string): string {
  const event = (type: string, rest: object = {}) => `event: ${type}\ndata: ${JSON.stringify({ type, ...rest })}\n\n`
  const usage = { input_tokens: 7, output_tokens: 1 }
  const message = {
    id: 'msg_1',
    type: 'message',
    role: 'assistant',
    model: 'demo',
    content: [],
    stop_reason: null,
    usage,
  }
  const said = words
    .split(/(?<= )/)
    .map((text) => event('content_block_delta', { index: 0, delta: { type: 'text_delta', text } }))
  return [
    event('message_start', { message }),
    event('content_block_start', { index: 0, content_block: { type: 'text', text: '' } }),
    event('ping'),
    ...said,
    event('content_block_stop', { index: 0 }),
    event('message_delta', { delta: { stop_reason: 'end_turn', stop_sequence: null }, usage: { output_tokens: 9 } }),
    event('message_stop'),
  ].join('')
}
