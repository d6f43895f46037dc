// Two providers with OpenAI's wire format and a key each. One that answers 200 and sends an error before its first word, or
// nothing at all, has not answered: the other is asked, and the reader sees one answer. Works with the official `openai` client.
//
//   node --import tsx demo/recipes/openai-failover.ts
//   curl -N http://127.0.0.1:3000/v1/chat/completions -H 'authorization: Bearer ada-token' \
//     -H 'content-type: application/json' -d '{"model":"demo","stream":true,"messages":[]}'
import { createServer } from 'node:http'
import express from 'express'
import { type CommitFunction, sseProxy } from 'sse-proxy-middleware'
import { listen } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'
import { chatChunks, type Failover, type FailoverOptions, startScriptedProvider } from './support/scripted-provider.ts'

/** The role comes first and says nothing; a word, a tool call or the end is an answer. */
const openaiCommit: CommitFunction = ({ data }) => {
  if (data === '[DONE]') return 'commit'
  const { error, choices: [choice] = [] } = JSON.parse(data)
  if (error) return 'retry'
  const { content, tool_calls, refusal } = choice?.delta ?? {}
  return content || tool_calls || refusal || choice?.finish_reason ? 'commit' : 'hold'
}

export async function start({
  port = 0,
  first = { body: 'data: {"error":{"message":"The engine is overloaded","type":"server_error"}}\n\n' },
  second = { body: chatChunks('The second one says hello.') },
}: FailoverOptions = {}): Promise<Failover> {
  const providers = [await startScriptedProvider(first), await startScriptedProvider(second)] as const
  const chat = sseProxy({
    name: 'chat',
    balance: 'failover',
    target: [
      { url: `${providers[0].url}/v1/chat/completions`, headers: { authorization: 'Bearer key-of-the-first' } },
      { url: `${providers[1].url}/v1/chat/completions`, headers: { authorization: 'Bearer key-of-the-second' } },
    ],
    // What says who the user is here is nothing to the providers.
    stripHeaders: ['authorization', 'cookie'],
    retry: { methods: ['POST'], statuses: [429, 500, 502, 503, 504], commit: openaiCommit },
  })
  const front = await listen(createServer(express().post('/v1/chat/completions', chat)), port)
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
