import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import OpenAI from 'openai'
import { type LlmGatewayOptions, start } from '../../demo/recipes/llm-gateway.ts'
import { until } from '../support/waiting.ts'

async function gatewayAndClient(t: TestContext, options: LlmGatewayOptions, apiKey = 'ada-token') {
  const gateway = await start(options)
  t.after(() => gateway.close())
  return { gateway, client: new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey, maxRetries: 0 }) }
}

const question = {
  model: 'demo',
  messages: [{ role: 'user' as const, content: 'whom do I ask?' }],
  stream: true as const,
}

test('the official client streams an answer without what must not be seen', async (t) => {
  const { client } = await gatewayAndClient(t, {
    answer: 'Ask ada@exam ple.org or ada@example.org, not me.',
    everyMs: 2,
  })

  let text = ''
  for await (const chunk of await client.chat.completions.create(question)) {
    text += chunk.choices[0]?.delta.content ?? ''
  }

  assert.equal(text, 'Ask ada@exam ple.org or [removed], not me.')
})

test('the provider sees its own key and the user is charged what the usage event says', async (t) => {
  const { gateway, client } = await gatewayAndClient(t, { answer: 'one two three', everyMs: 2 })

  for await (const _ of await client.chat.completions.create(question));

  assert.deepEqual(gateway.provider.keys, ['Bearer the-key-of-the-provider'])
  await until(() => gateway.tokensOf('ada') === 10, 'the usage to be counted')
  assert.equal(gateway.tokensOf('grace'), 0)
})

test('a user who leaves stops the provider and is charged what came', async (t) => {
  const { gateway, client } = await gatewayAndClient(t, { answer: 'word '.repeat(10_000), everyMs: 2 })

  const stream = await client.chat.completions.create(question)
  let chunks = 0
  for await (const _ of stream) {
    chunks += 1
    if (chunks === 5) break
  }

  await until(() => gateway.provider.open === 0, 'the provider to stop')
  await until(() => gateway.tokensOf('ada') > 0, 'the stream to be charged')
  const made = gateway.provider.tokensMade
  assert.ok(made < 100, `${made} tokens were made`)
  assert.ok(Math.abs(gateway.tokensOf('ada') - made) <= 5, `${gateway.tokensOf('ada')} charged, ${made} made`)
})

test('a question of 150 kB is not too large', async (t) => {
  const { client } = await gatewayAndClient(t, { answer: 'one', everyMs: 2 })
  const messages = [{ role: 'user' as const, content: 'x'.repeat(150_000) }]

  let text = ''
  for await (const chunk of await client.chat.completions.create({ ...question, messages })) {
    text += chunk.choices[0]?.delta.content ?? ''
  }

  assert.equal(text, 'one')
})

test('a wrong token is answered in the form the client knows', async (t) => {
  const { gateway, client } = await gatewayAndClient(t, {}, 'wrong')

  await assert.rejects(async () => await client.chat.completions.create(question), OpenAI.AuthenticationError)
  assert.deepEqual(gateway.provider.keys, [])
})
