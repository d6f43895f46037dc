// Answers of models: of one that fails behind its status 200, and one whose reader goes away and comes back.
import { readData } from './event-data.ts'
import type { Experiment } from './experiment-list.ts'
import { type LastingAnswer, question } from './lasting-answer.ts'
import { pause } from './pause.ts'
import { seconds, type Verdict } from './verdicts.ts'

const readTokens = 10
const awayMs = 1000
const patienceMs = 5000

export function answerExperiments(lasting: LastingAnswer, ensureUser: () => Promise<void>): readonly Experiment[] {
  return [
    {
      id: 'models',
      button: 'Ask a failing model',
      what: 'It answers 200 and then fails. There is a second provider; and half an answer must not look like a whole one.',
      choices: {
        label: 'How it fails',
        options: [
          ['fails at once', 'error first'],
          ['fails midway', 'stops midway'],
        ],
      },
      run: async (model) => {
        const [proxied, plain] = await Promise.all([askModel('/models', model), askModel('/plain/models', model)])
        return { proxied: judgeAnswer(proxied), plain: judgeAnswer(plain) }
      },
    },
    {
      id: 'reload',
      button: 'Leave and come back',
      what: 'The page is reloaded in the middle of an answer: its connection is gone, and the answer must not be.',
      run: async () => {
        await ensureUser()
        const [proxied, plain] = await Promise.all([comeBack(lasting), comeBackPlain()])
        return { proxied, plain }
      },
    },
  ]
}

/** What a reader sees of an answer. */
interface Answer {
  readonly status: number
  readonly tokens: number
  /** Who made them. */
  readonly model: string
  /** An error that came as an event. */
  readonly error: string
  /** Whether the event came that ends every whole answer. */
  readonly isDone: boolean
  readonly isBroken: boolean
}

async function askModel(url: string, model: string): Promise<Answer> {
  const response = await fetch(url, { ...question, body: JSON.stringify({ model, stream: true, messages: [] }) })
  const answer = { status: response.status, tokens: 0, model: '', error: '', isDone: false, isBroken: false }
  try {
    await readData(response.body ?? new Blob().stream(), (data) => {
      if (data === '[DONE]') {
        answer.isDone = true
        return
      }
      const { error, model: name, choices } = JSON.parse(data)
      if (error) answer.error = error.message
      if (!choices) return
      answer.tokens += 1
      answer.model = name
    })
  } catch {
    answer.isBroken = true
  }
  return answer
}

function judgeAnswer({ status, tokens, model, error, isDone, isBroken }: Answer): Verdict {
  if (isDone && !error) return { good: true, text: `A whole answer: ${tokens} tokens and its end, from ${model}.` }
  if (error && isBroken)
    return {
      good: true,
      text: `${tokens} tokens, then “${error}”, and the transfer breaks: nobody takes it for whole.`,
    }
  if (error) return { good: false, text: `Status ${status} and ${tokens} tokens: all that comes is “${error}”.` }
  return {
    good: false,
    text: `${tokens} tokens and ${isBroken ? 'a broken transfer' : 'a clean end: half an answer that looks whole'}.`,
  }
}

async function comeBack(lasting: LastingAnswer): Promise<Verdict> {
  void lasting.ask()
  await waitFor(() => lasting.tokens >= readTokens)
  const [text, tokens] = [lasting.text, lasting.tokens]
  lasting.leave()
  await pause(awayMs)
  void lasting.resume()
  await waitFor(() => lasting.tokens > tokens)
  await pause(300)
  const all = lasting.tokens
  const good = all > tokens && lasting.text.startsWith(text)
  await lasting.stop()
  return {
    good,
    text: good
      ? `${tokens} tokens read, away for ${seconds(awayMs)}, then all ${all} from the first on: the answer had gone on.`
      : `${tokens} tokens read; ${all} after coming back, and not the same ones.`,
  }
}

async function comeBackPlain(): Promise<Verdict> {
  const url = '/plain/answers/v1/chat/completions'
  const reading = new AbortController()
  let tokens = 0
  try {
    const { body } = await fetch(url, { ...question, signal: reading.signal })
    await readData(body ?? new Blob().stream(), () => {
      tokens += 1
      if (tokens >= readTokens) reading.abort()
    })
  } catch {
    // This is the reload.
  }
  await pause(awayMs)
  const { status, ok, body } = await fetch(url)
  await body?.cancel()
  return {
    good: ok,
    text: `${tokens} tokens read, away for ${seconds(awayMs)}, then status ${status}${ok ? '' : ': the answer is lost'}.`,
  }
}

async function waitFor(isSo: () => boolean): Promise<void> {
  const patience = AbortSignal.timeout(patienceMs)
  while (!isSo() && !patience.aborted) await pause(20)
}
