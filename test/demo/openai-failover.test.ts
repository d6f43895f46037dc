import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import OpenAI from 'openai'
import { start } from '../../demo/recipes/openai-failover.ts'
import { chatChunks, type FailoverOptions } from '../../demo/recipes/support/scripted-provider.ts'

const question = {
  model: 'demo',
  messages: [{ role: 'user' as const, content: 'who is there?' }],
  stream: true as const,
}
const inBand = 'data: {"error":{"message":"The engine is overloaded","type":"server_error"}}\n\n'
const role = chatChunks('').split('\n\n')[0]

for (const [name, first] of [
  ['fails in its first event', { body: inBand }],
  ['fails behind the role', { body: `${role}\n\n${inBand}` }],
  ['brings nothing', { body: '' }],
  ['brings nothing but comments', { body: ': PROCESSING\n\n: PROCESSING\n\n' }],
  ['answers 429', { status: 429, body: '{"error":{"message":"slow down"}}' }],
] as const) {
  test(`the official client gets the second provider's answer where the first ${name}`, async (t) => {
    const { client, providers } = await arranged(t, { first })

    const text = await answerTo(client)

    assert.equal(text, 'The second one says hello.')
    assert.deepEqual(
      providers.map(({ asked }) => asked.map(({ headers }) => headers.authorization)),
      [['Bearer key-of-the-first'], ['Bearer key-of-the-second']],
    )
    assert.equal(JSON.parse(providers[1].asked[0]?.body ?? '').messages[0].content, 'who is there?')
  })
}

test("the official client throws the last provider's own error where both fail in their streams", async (t) => {
  const { client } = await arranged(t, { second: { body: inBand.replace('engine', 'other engine') } })

  await assert.rejects(answerTo(client), (error: unknown) => {
    assert.ok(error instanceof OpenAI.APIError)
    assert.match(error.message, /The other engine is overloaded/)
    return true
  })
})

test("the official client's own retries see the last provider's status and Retry-After", async (t) => {
  const busy = { status: 503, headers: { 'retry-after-ms': '1' }, body: '{"error":{"message":"full"}}' }
  const { client, providers } = await arranged(t, { first: busy, second: busy }, 1)

  await assert.rejects(answerTo(client), (error: unknown) => {
    assert.ok(error instanceof OpenAI.APIError)
    assert.equal(error.status, 503)
    return true
  })
  assert.deepEqual(
    providers.map(({ asked }) => asked.length),
    [2, 2],
  )
})

async function arranged(t: TestContext, options: FailoverOptions, maxRetries = 0) {
  const { url, providers, close } = await start(options)
  t.after(close)
  return { providers, client: new OpenAI({ baseURL: `${url}/v1`, apiKey: 'ada-token', maxRetries }) }
}

async function answerTo(client: OpenAI): Promise<string> {
  let text = ''
  for await (const chunk of await client.chat.completions.create(question))
    text += chunk.choices[0]?.delta.content ?? ''
  return text
}
