// Two providers with OpenAI's wire format, both of which always answer 200. The first one fails where the question's model says
// so, in the two ways in which providers do; the second one never fails.
import { json } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { Backend, type Serve } from './backend.ts'

const words = 'This is the whole of an answer, with the event at its end by which you know that.'.split(/(?<= )/)
const failsAfter = 8
const everyMs = 40

export class Models {
  readonly backends: readonly [Backend, Backend]

  constructor() {
    this.backends = [new Backend('model-a', provider(true)), new Backend('model-b', provider(false))]
  }

  async start(): Promise<void> {
    await Promise.all(this.backends.map((backend) => backend.start()))
  }

  async stop(): Promise<void> {
    await Promise.all(this.backends.map((backend) => backend.stop()))
  }
}

function provider(mayFail: boolean): Serve {
  return async (req, res, backend) => {
    const { model } = (await json(req)) as { model?: string }
    const send = (fields: object) => res.write(`data: ${JSON.stringify(fields)}\n\n`)
    backend.open(req, res)
    if (mayFail && model === 'fails at once') {
      send({ error: { message: 'The engine is overloaded' } })
      return void res.end()
    }
    for (const [i, content] of words.entries()) {
      await delay(everyMs)
      if (res.destroyed) return
      if (mayFail && model === 'fails midway' && i === failsAfter) return void res.end()
      send({ model: backend.name, choices: [{ index: 0, delta: { content } }] })
    }
    res.end('data: [DONE]\n\n')
  }
}
