import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import OpenAI from 'openai'
import { start, type WholeAnswersOptions } from '../../demo/recipes/whole-answers.ts'
import { request } from '../support/client.ts'

const answer = 'one two three four'
const half = 'one two '

async function answers(t: TestContext, options: WholeAnswersOptions) {
  const running = await start({ answer, ...options })
  t.after(() => running.close())
  return running
}

test('half an answer with a clean end passes for a whole one where the official client asks the provider itself', async (t) => {
  const { providerUrl } = await answers(t, { wordsMade: 2 })

  const { text, error } = await completion(providerUrl)

  assert.deepEqual({ text, error }, { text: half, error: undefined })
})

test('half an answer with a clean end throws in the official client, which says why', async (t) => {
  const { url } = await answers(t, { wordsMade: 2 })

  const { text, error } = await completion(url)

  assert.equal(text, half)
  assert.ok(error instanceof OpenAI.APIError)
  assert.equal(error.code, 'ERR_SSE_PROXY_INCOMPLETE')
  assert.match(error.message, /not complete/)
})

test('a whole answer is one in the official client', async (t) => {
  const { url } = await answers(t, { wordsMade: 4 })

  assert.deepEqual(await completion(url), { text: answer, error: undefined })
})

test('half an answer of a chat ends with an error event of its format, and breaks', async (t) => {
  const { url } = await answers(t, { wordsMade: 2 })

  const client = request(`${url}/api/chat`, { method: 'POST', body: '{}' })

  assert.equal(await client.ended(), 'broken')
  assert.match(
    client.text,
    /"delta":"two "}\n\ndata: \{"type":"error","errorText":"The answer is not complete[^\n]*\n\n$/,
  )
})

/** What the client has of the answer, and what it throws. */
async function completion(url: string): Promise<{ text: string; error: unknown }> {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'key', maxRetries: 0 })
  let text = ''
  try {
    const stream = await client.chat.completions.create({ model: 'demo', messages: [], stream: true })
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? ''
    return { text, error: undefined }
  } catch (error) {
    return { text, error }
  }
}
