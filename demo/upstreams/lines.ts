// A model that answers as Ollama does: with lines of JSON, a word each, the last of them with `done: true`.
import { setTimeout as delay } from 'node:timers/promises'
import { Backend } from './backend.ts'

const words = 'Every line is a value of its own, and is an event as soon as it has come.'.split(/(?<= )/)
const everyMs = 60

export class Lines {
  readonly backend: Backend

  constructor() {
    this.backend = new Backend('lines', async (req, res, backend) => {
      backend.open(req, res, 'application/x-ndjson')
      const say = (content: string, done: boolean) =>
        res.write(`${JSON.stringify({ model: 'demo', message: { role: 'assistant', content }, done })}\n`)
      for (const word of words) {
        await delay(everyMs)
        if (res.destroyed) return
        say(word, false)
      }
      say('', true)
      res.end()
    })
  }

  start(): Promise<void> {
    return this.backend.start()
  }

  stop(): Promise<void> {
    return this.backend.stop()
  }
}
