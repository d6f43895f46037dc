import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Ollama } from 'ollama'
import { type OllamaOptions, start } from '../../demo/recipes/ollama.ts'
import { request } from '../support/client.ts'
import { until } from '../support/waiting.ts'

const question = { model: 'demo', messages: [{ role: 'user', content: 'what is it?' }] }

async function arranged(t: TestContext, options: OllamaOptions = {}) {
  const recipe = await start(options)
  t.after(() => recipe.close())
  return { recipe, ollama: new Ollama({ host: recipe.url }) }
}

test('the official client gets the words as they come', async (t) => {
  const { ollama } = await arranged(t)

  const words: string[] = []
  for await (const part of await ollama.chat({ ...question, stream: true })) words.push(part.message.content)

  assert.deepEqual(words, ['Lines ', 'of ', 'JSON.', ''])
})

test('the official client gets a whole answer where it asks for one', async (t) => {
  const { ollama } = await arranged(t)

  const answer = await ollama.chat(question)

  assert.equal(answer.message.content, 'Lines of JSON.')
})

test('a page gets the same words as events', async (t) => {
  const { recipe } = await arranged(t)

  const client = request(`${recipe.url}/api/chat`, {
    method: 'POST',
    headers: { accept: 'text/event-stream', 'content-type': 'application/json' },
    body: JSON.stringify({ ...question, stream: true }),
  })
  const events = (await client.whole()).split('\n\n').filter((event) => event !== '')

  assert.equal(client.headers['content-type'], 'text/event-stream')
  assert.deepEqual(
    events.map((event) => JSON.parse(event.replace(/^data: /, '')).message.content),
    ['Lines ', 'of ', 'JSON.', ''],
  )
})

test('an answer that ends in the middle is an error of the official client, not half an answer', async (t) => {
  const { ollama } = await arranged(t, { isCut: true })

  const reading = (async () => {
    for await (const _ of await ollama.chat({ ...question, stream: true })) {
    }
  })()

  await assert.rejects(reading)
})

test('an answer that ends in the middle is a broken transfer of a page, too', async (t) => {
  const { recipe } = await arranged(t, { isCut: true })

  const client = request(`${recipe.url}/api/chat`, {
    method: 'POST',
    headers: { accept: 'text/event-stream', 'content-type': 'application/json' },
    body: JSON.stringify({ ...question, stream: true }),
  })

  assert.equal(await client.ended(), 'broken')
})

test('a client that leaves stops the model', async (t) => {
  const { recipe, ollama } = await arranged(t, { words: Array.from({ length: 1000 }, () => 'on and ') })

  for await (const _ of await ollama.chat({ ...question, stream: true })) break
  ollama.abort()

  await until(() => recipe.answering === 0, 'the model to stop')
})
