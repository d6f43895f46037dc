// LangChain's chat model of OpenAI's format, streaming through the proxy.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChatOpenAI } from '@langchain/openai'
import express from 'express'
import { proxied } from '../support/proxied.ts'

const delta = (content: string): string =>
  JSON.stringify({ id: 'x', object: 'chat.completion.chunk', choices: [{ index: 0, delta: { content } }] })

test('tokens arrive one by one, and half an answer is an error', async (t) => {
  const { upstream, front } = await proxied(
    t,
    { isEnd: ({ data }) => data === '[DONE]' },
    { before: [express.json()], mount: '/v1' },
  )
  const model = new ChatOpenAI({ apiKey: 'key', model: 'one', maxRetries: 0, configuration: { baseURL: front.url } })

  const reading = model.stream('hello')
  const whole = await upstream.next()
  const body = JSON.parse(String(await whole.body()))
  const stream = whole.stream()
  stream.send({ data: delta('Hel') })
  const chunks = (await reading)[Symbol.asyncIterator]()
  const first = await chunks.next()
  stream.send({ data: delta('lo') })
  const second = await chunks.next()
  stream.send({ data: '[DONE]' })
  stream.end()
  const third = await chunks.next()
  const readingHalf = model.stream('hello')
  const half = (await upstream.next()).stream()
  half.send({ data: delta('Hel') })
  half.end()

  assert.deepEqual([first.value?.content, second.value?.content, third.done], ['Hel', 'lo', true])
  assert.equal(body.stream, true)
  await assert.rejects(async () => {
    for await (const _ of await readingHalf) {
    }
  })
})
