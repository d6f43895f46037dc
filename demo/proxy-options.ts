// What the routes of the demo ask of sse-proxy-middleware: one set of options each, as an app would have them.
import type { Request, Response } from 'express'
import type { SseProxyOptions } from 'sse-proxy-middleware'
import { pollMs } from './experiments/patience.ts'
import type { Upstreams } from './upstreams/upstreams.ts'

export const names = [
  'ticker',
  'shared',
  'notifications',
  'jobs',
  'chat',
  'answers',
  'flood',
  'models',
  'lines',
  'status',
  'secure',
] as const
export type Name = (typeof names)[number]

export type AllOptions = Readonly<Record<Name, SseProxyOptions<Request, Response>>>

export function optionsFor(upstreams: Upstreams): AllOptions {
  const { ticker, notifications, jobs, chat, answers, flood, models, lines, status, secure } = upstreams
  const tickers = ticker.backends.map(({ url }) => url)
  // An EventSource gives up on a 503 but comes back after an empty stream: at once here, so that nobody has to wait.
  const patient = { unavailable: 'reconnect', clientRetryMs: [200, 800] } as const
  return {
    ticker: {
      ...patient,
      name: 'ticker',
      target: tickers,
      resume: { attempts: 40, delayMs: 50, maxDelayMs: 500 },
      health: { ejectMs: 500, maxEjectMs: 1000 },
      keepalive: 1000,
    },
    shared: { ...patient, name: 'shared', target: tickers, share: { lingerMs: 500 }, resume: true },
    notifications: {
      ...patient,
      name: 'notifications',
      target: notifications.backends.map(({ url }) => url),
      sticky: { header: 'x-user' },
      limits: { streamsPerClient: 6, clientKey: (req) => String(req.headers['x-user']) },
    },
    jobs: { ...patient, name: 'jobs', target: `${jobs.backend.url}/jobs`, resume: true },
    chat: { name: 'chat', target: chat.backend.url },
    answers: {
      name: 'answers',
      target: answers.backend.url,
      share: {
        // One answer a user here: the key is who the user is.
        key: (req) => String(req.headers['x-user']),
        open: ['POST'],
        join: ['GET'],
        stop: ['DELETE'],
        busy: 'replace',
        lingerMs: Number.POSITIVE_INFINITY,
        keepEndedMs: 60_000,
        replay: { ids: 'assign', initial: 'all' },
      },
    },
    flood: { name: 'flood', target: flood.backend.url, timeouts: { writeMs: 2000 } },
    models: {
      name: 'models',
      target: models.backends.map(({ url }) => url),
      balance: 'failover',
      retry: { methods: ['POST'], commit: ({ data }) => (data.startsWith('{"error"') ? 'retry' : 'commit') },
      isEnd: ({ data }) => data === '[DONE]',
      onLost: () => ({ data: '{"error":{"message":"The answer is not complete"}}' }),
      // The first one fails when it is told to, and is to be asked all the same the next time.
      health: false,
    },
    lines: {
      name: 'lines',
      target: lines.backend.url,
      from: 'ndjson',
      isEnd: ({ data }) => JSON.parse(data).done === true,
    },
    status: {
      ...patient,
      name: 'status',
      target: status.backend.url,
      from: { format: 'json', everyMs: pollMs },
      // It tells everybody the same.
      share: { key: () => 'status', lingerMs: 500 },
    },
    // Nobody has signed the demo's certificate.
    secure: { name: 'secure', target: secure.url, http2: 'auto', secure: false },
  }
}
