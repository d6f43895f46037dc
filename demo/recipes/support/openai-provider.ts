// A stand-in for a provider with OpenAI's wire format: it streams the words of an answer to a POST and closes with the
// usage where it is asked for.
import { createServer, type IncomingMessage } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { type Listening, listen } from './listen.ts'

export interface Provider extends Listening {
  /** Tokens made for anybody so far: what the provider would put on the bill. */
  readonly tokensMade: number
  /** Answers that are being made. */
  readonly open: number
  /** The Authorization headers that came. */
  readonly keys: readonly string[]
}

export async function startProvider({ answer = '', everyMs = 20 } = {}): Promise<Provider> {
  const keys: string[] = []
  let tokensMade = 0
  let open = 0
  const server = createServer(async (req, res) => {
    open += 1
    res.once('close', () => {
      open -= 1
    })
    keys.push(req.headers.authorization ?? '')
    const { model, stream_options } = JSON.parse(await bodyOf(req))
    const chunk = (fields: object) =>
      res.write(`data: ${JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion.chunk', model, ...fields })}\n\n`)
    res.writeHead(200, { 'content-type': 'text/event-stream' })

    const tokens = answer.split(/(?<= )/)
    for (const content of tokens) {
      await delay(everyMs)
      if (res.destroyed) return
      tokensMade += 1
      chunk({ choices: [{ index: 0, delta: { content }, finish_reason: null }] })
    }
    chunk({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] })
    if (stream_options?.include_usage) {
      const usage = { prompt_tokens: 7, completion_tokens: tokens.length, total_tokens: 7 + tokens.length }
      chunk({ choices: [], usage })
    }
    res.end('data: [DONE]\n\n')
  })
  const listening = await listen(server)
  return {
    ...listening,
    keys,
    get open() {
      return open
    },
    get tokensMade() {
      return tokensMade
    },
  }
}

async function bodyOf(req: IncomingMessage): Promise<string> {
  let body = ''
  for await (const part of req.setEncoding('utf8')) body += part
  return body
}
