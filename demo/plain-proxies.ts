// The same routes with nothing but http-proxy-middleware, as its README shows it: what the page compares with.
import type { RequestHandler } from 'express'
import { createProxyMiddleware, fixRequestBody } from 'http-proxy-middleware'
import type { Upstreams } from './upstreams/upstreams.ts'

type Name = 'ticker' | 'notifications' | 'chat' | 'answers' | 'flood' | 'models' | 'lines' | 'status' | 'secure'

export function createPlainProxies(upstreams: Upstreams): Readonly<Record<Name, RequestHandler>> {
  const { ticker, notifications, chat, answers, flood, models, lines, status, secure } = upstreams
  const plain = (target: string): RequestHandler => createProxyMiddleware({ target })
  // With what its README has for bodies that express.json() has read.
  const withBody = (target: string): RequestHandler =>
    createProxyMiddleware({ target, on: { proxyReq: fixRequestBody } })
  let turn = 0
  return {
    ticker: plain(ticker.backends[0].url),
    // Several upstreams need a router of one's own; the usual one takes turns.
    notifications: createProxyMiddleware({
      router: () => notifications.backends[turn++ % 2 === 0 ? 0 : 1].url,
    }),
    chat: plain(chat.backend.url),
    answers: withBody(answers.backend.url),
    flood: plain(flood.backend.url),
    models: withBody(models.backends[0].url),
    lines: plain(lines.backend.url),
    status: plain(status.backend.url),
    secure: createProxyMiddleware({ target: secure.url, secure: false }),
  }
}
