// Two providers with Anthropic's wire format and a key each. One that answers 200 and sends an error before its first block
// says anything has not answered: the other is asked. Works with the official `@anthropic-ai/sdk` client.
//
//   node --import tsx demo/recipes/anthropic-failover.ts
//   curl -N http://127.0.0.1:3000/v1/messages -H 'x-api-key: ada-token' \
//     -H 'content-type: application/json' -d '{"model":"demo","stream":true,"max_tokens":9,"messages":[]}'
import { createServer } from 'node:http'
import express from 'express'
import { type CommitFunction, sseProxy } from 'sse-proxy-middleware'
import { listen } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'
import {
  type Failover,
  type FailoverOptions,
  messageEvents,
  startScriptedProvider,
} from './support/scripted-provider.ts'

const PREAMBLE = ['message_start', 'content_block_start', 'ping']

/** What comes before the first word says nothing; an error has a name of its own. */
const anthropicCommit: CommitFunction = ({ event = '' }) => {
  if (event === 'error') return 'retry'
  return PREAMBLE.includes(event) ? 'hold' : 'commit'
}

const overloaded = 'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'

export async function start({
  port = 0,
  first = { body: overloaded },
  second = { body: messageEvents('The second one says hello.') },
}: FailoverOptions = {}): Promise<Failover> {
  const providers = [await startScriptedProvider(first), await startScriptedProvider(second)] as const
  const messages = sseProxy({
    name: 'messages',
    balance: 'failover',
    target: [
      { url: `${providers[0].url}/v1/messages`, headers: { 'x-api-key': 'key-of-the-first' } },
      { url: `${providers[1].url}/v1/messages`, headers: { 'x-api-key': 'key-of-the-second' } },
    ],
    // What says who the user is here is nothing to the providers.
    stripHeaders: ['authorization', 'cookie', 'x-api-key'],
    retry: { methods: ['POST'], statuses: [429, 500, 502, 503, 504, 529], commit: anthropicCommit },
  })
  const front = await listen(createServer(express().post('/v1/messages', messages)), port)
  return {
    url: front.url,
    providers,
    async close() {
      await front.close()
      await Promise.all(providers.map((provider) => provider.close()))
    },
  }
}

await runAlone(import.meta.url, start)
