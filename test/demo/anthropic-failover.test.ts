import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'
import { start } from '../../demo/recipes/anthropic-failover.ts'
import { type FailoverOptions, messageEvents } from '../../demo/recipes/support/scripted-provider.ts'

const question = {
  model: 'demo',
  max_tokens: 9,
  messages: [{ role: 'user' as const, content: 'who is there?' }],
}
const failure = 'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
const preamble = messageEvents('x').split('event: content_block_delta')[0]

for (const [name, first] of [
  ['fails in its first event', { body: failure }],
  ['fails behind its preamble', { body: `${preamble}${failure}` }],
  ['ends behind its preamble', { body: `${preamble}` }],
  ['answers 529', { status: 529, body: '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}' }],
] as const) {
  test(`the official client gets the second provider's answer where the first ${name}`, async (t) => {
    const { client, providers } = await arranged(t, { first })

    const message = await client.messages.stream(question).finalMessage()

    assert.equal(message.stop_reason, 'end_turn')
    assert.deepEqual(
      message.content.map((block) => (block.type === 'text' ? block.text : '')),
      ['The second one says hello.'],
    )
    assert.deepEqual(
      providers.map(({ asked }) => asked.map(({ headers }) => headers['x-api-key'])),
      [['key-of-the-first'], ['key-of-the-second']],
    )
  })
}

test("the official client throws the last provider's own error where both fail in their streams", async (t) => {
  const { client } = await arranged(t, {
    second: { body: preamble + failure.replace('"Overloaded"', '"Overloaded too"') },
  })

  await assert.rejects(client.messages.stream(question).finalMessage(), (error: unknown) => {
    assert.ok(error instanceof Anthropic.APIError)
    assert.match(error.message, /Overloaded too/)
    return true
  })
})

async function arranged(t: TestContext, options: FailoverOptions) {
  const { url, providers, close } = await start(options)
  t.after(close)
  return { providers, client: new Anthropic({ baseURL: url, apiKey: 'ada-token', maxRetries: 0 }) }
}
