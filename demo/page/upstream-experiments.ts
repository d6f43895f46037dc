// Upstreams of other kinds: two that speak no event streams, read with the browser's own EventSource, and one that speaks HTTP/2.
import type { CrowdResult } from '../experiments/crowd.ts'
import { pollMs } from '../experiments/patience.ts'
import { ask } from './ask.ts'
import type { Experiment, Verdicts } from './experiment-list.ts'
import { judgeCrowd, seconds, type Verdict } from './verdicts.ts'

export const upstreamExperiments: readonly Experiment[] = [
  {
    id: 'lines',
    button: 'Answer in lines',
    what: 'A model answers in lines of JSON (NDJSON), as Ollama does. The reader is the browser’s own EventSource.',
    run: async () => ({ proxied: await readLines('/events/lines'), plain: await readLines('/plain/lines') }),
  },
  {
    id: 'poll',
    button: 'Change polled JSON',
    what: `An endpoint answers with plain JSON, which changes once. 100 clients want to know: by events, or by polling at intervals of ${seconds(pollMs)}.`,
    run: changePolled,
  },
  {
    id: 'http2',
    button: 'Open 200 over HTTP/2',
    what: 'An upstream that speaks HTTP/2 takes a hundred streams on one connection. 200 clients want one each.',
    run: async () => {
      const { proxied, plain } = await ask('http2')
      return { proxied: judgeMultiplexed(proxied), plain: judgeMultiplexed(plain) }
    },
  },
]

/** Good is what uses that. */
function judgeMultiplexed(result: CrowdResult): Verdict {
  const { good, text } = judgeCrowd(result)
  return { good: good && result.upstream < result.asked, text }
}

async function readLines(url: string): Promise<Verdict> {
  const heard = await listen(url, (data) => JSON.parse(data).done)
  const [first, last] = [heard.times[0], heard.times.at(-1)]
  if (first === undefined || last === undefined) return { good: false, text: await silence(url, heard) }
  const events = `${heard.times.length} events, the first after ${seconds(first)}`
  return heard.isOver
    ? { good: true, text: `A whole answer in ${events}, the last after ${seconds(last)}.` }
    : { good: false, text: `${events}, and no end.` }
}

async function changePolled(): Promise<Verdicts> {
  const isFirst = () => true
  const [proxied, plain] = [await listen('/events/status', isFirst), await listen('/plain/status', isFirst)]
  const results = await ask('poll')
  const tell = ({ told, clients, lastMs, requests, watchedMs }: typeof results.proxied) =>
    `${told} of ${clients} saw the change, the last after ${seconds(lastMs)}; ${requests} requests to the upstream in ${seconds(watchedMs)}.`
  return {
    proxied: {
      good: proxied.isOver && results.proxied.told === results.proxied.clients,
      text: proxied.isOver ? `As an event: ${tell(results.proxied)}` : await silence('/events/status', proxied),
    },
    plain: {
      good: plain.isOver,
      text: `${plain.isOver ? '' : await silence('/plain/status', plain)} Polling: ${tell(results.plain)}`.trim(),
    },
  }
}

interface Heard {
  /** When each event came, in ms. */
  readonly times: readonly number[]
  /** Whether the last of them was the one that was waited for. */
  readonly isOver: boolean
  /** Whether the browser will not come back. */
  readonly gaveUp: boolean
}

/** Listens until an event is the one that is waited for, or the stream is no more. */
async function listen(url: string, isLast: (data: string) => boolean): Promise<Heard> {
  const since = performance.now()
  const times: number[] = []
  const source = new EventSource(url)
  const isOver = await new Promise<boolean>((resolve) => {
    source.addEventListener('message', ({ data }) => {
      times.push(performance.now() - since)
      if (isLast(data)) resolve(true)
    })
    source.addEventListener('error', () => resolve(false))
  })
  const gaveUp = source.readyState === EventSource.CLOSED
  source.close()
  return { times, isOver, gaveUp }
}

/** Why there was no event. */
async function silence(url: string, { gaveUp }: Heard): Promise<string> {
  const response = await fetch(url)
  await response.body?.cancel()
  const type = response.headers.get('content-type') ?? 'nothing'
  return `The EventSource ${gaveUp ? 'gave up' : 'lost the stream'} without an event: what it gets is ${type}.`
}
