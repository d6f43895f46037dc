// A model with OpenAI's wire format: POST /v1/chat/completions, an answer word by word, the usage at the end. It counts
// the tokens it makes, which is what somebody pays for.
import { setTimeout as delay } from 'node:timers/promises'
import { Backend, type Serve } from './backend.ts'

const answer =
  'A server-sent event is text with a blank line behind it, so a proxy only has to leave it alone. It has to pass each ' +
  'one on at once, never cut one in two, say so when the other side is gone, and stop asking for more when you are. ' +
  'Most of the trouble with streams is that one of these four was forgotten somewhere on the way. You are reading ' +
  'this one token at a time; press Stop, and the counter of the model beside this text stands still, because nobody ' +
  'is left to pay for the rest of the sentence. '
/** Long enough to reload the page, or to look for another tab. */
export const lastingAnswer =
  'Reload this page: the answer is made all the same, and you get it from its start. Open a second tab: both read it. The ' +
  'model was asked once, knows nothing of that, and is stopped by Stop alone, in whichever tab. '
const everyMs = 60

export class Chat {
  readonly backend: Backend
  #tokens = 0

  readonly #answer: string

  constructor(name = 'chat', text = answer) {
    this.#answer = text
    this.backend = new Backend(name, this.#complete)
  }

  /** Tokens made for anybody so far. */
  get tokens(): number {
    return this.#tokens
  }

  start(): Promise<void> {
    return this.backend.start()
  }

  stop(): Promise<void> {
    return this.backend.stop()
  }

  readonly #complete: Serve = async (req, res, backend) => {
    if (req.method !== 'POST') return void res.writeHead(405, { allow: 'POST' }).end()
    for await (const _ of req);
    backend.open(req, res)
    const send = (fields: object) =>
      res.write(`data: ${JSON.stringify({ object: 'chat.completion.chunk', model: 'demo', ...fields })}\n\n`)
    const words = this.#answer.repeat(3).split(/(?<= )/)
    for (const content of words) {
      await delay(everyMs)
      if (res.destroyed) return
      this.#tokens += 1
      send({ choices: [{ index: 0, delta: { content }, finish_reason: null }] })
    }
    send({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] })
    send({ choices: [], usage: { completion_tokens: words.length } })
    res.end('data: [DONE]\n\n')
  }
}
