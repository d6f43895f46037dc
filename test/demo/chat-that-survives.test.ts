import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { DefaultChatTransport, readUIMessageStream, type UIMessage, type UIMessageChunk } from 'ai'
import { type ChatThatSurvivesOptions, start } from '../../demo/recipes/chat-that-survives.ts'
import { until } from '../support/waiting.ts'

const answer = 'one two three four five six seven eight nine ten'

test('a page that is reloaded in the middle of an answer gets all of it, and the provider is asked once', async (t) => {
  const { running, transport, ask } = await chat(t, { answer, everyMs: 20 })
  const page = new AbortController()
  await ask(page.signal)
  await until(() => running.made > 0, 'the first word')
  page.abort()

  const resumed = await transport('ada').reconnectToStream({ chatId: '7' })

  assert.equal(await textOf(resumed), answer)
  assert.equal(running.made, 10)
})

test('an answer that nobody waits for is made to its end, accounted for, and there for who comes later', async (t) => {
  const { running, transport, ask } = await chat(t, { answer, everyMs: 1 })
  const page = new AbortController()
  await ask(page.signal)
  page.abort()

  await until(() => running.answered.length > 0, 'the end of the answer')

  assert.deepEqual(running.answered, ['ada'])
  assert.equal(await textOf(await transport('ada').reconnectToStream({ chatId: '7' })), answer)
})

test('Stop stops the provider, for every tab, and leaves nothing to resume', async (t) => {
  const { running, transport, ask } = await chat(t, { answer: 'word '.repeat(10_000), everyMs: 5 })
  const tabs = [await ask(), await transport('ada').reconnectToStream({ chatId: '7' })]

  const stopped = await fetch(`${running.url}/api/chat/7/stream`, { method: 'DELETE', headers: headersOf('ada') })

  assert.equal(stopped.status, 204)
  await Promise.all(tabs.map((tab) => textOf(tab)))
  assert.equal(await transport('ada').reconnectToStream({ chatId: '7' }), null)
})

test('nobody else reads or stops it, whatever id they give', async (t) => {
  const { running, transport, ask } = await chat(t, { answer: 'word '.repeat(10_000), everyMs: 5 })
  await ask()

  assert.equal(await transport('grace').reconnectToStream({ chatId: '7' }), null)
  assert.equal(await transport('grace').reconnectToStream({ chatId: '["ada","7"]' }), null)
  const stopped = await fetch(`${running.url}/api/chat/7/stream`, { method: 'DELETE', headers: headersOf('grace') })
  assert.equal(stopped.status, 404)
  const unknown = await fetch(`${running.url}/api/chat/7/stream`, { headers: headersOf('eve') })
  assert.equal(unknown.status, 401)
})

for (const [question, path] of [
  ['{}', ''],
  ['{"id":""}', ''],
  ['{"id":0}', ''],
  ['{"id":{"toString":1}}', ''],
  ['{}', '//stream'],
] as const) {
  test(`a question without a chat (${question}, ${path || '/'}) is answered, and read and stopped by nobody else`, async (t) => {
    const { running } = await chat(t, { answer, everyMs: 20 })
    const url = `${running.url}/api/chat${path}`
    const headers = { ...headersOf('ada'), 'content-type': 'application/json' }

    const asked = await fetch(url, { method: 'POST', headers, body: question })
    const read = await fetch(url, { headers: headersOf('grace') })
    const stopped = await fetch(url, { method: 'DELETE', headers: headersOf('grace') })

    assert.deepEqual([asked.status, read.status, stopped.status], [200, 204, 404])
    assert.match(await asked.text(), /ten/)
  })
}

test('a user with many answers is refused another one, and nobody else is', async (t) => {
  const { running } = await chat(t, { answer: 'word '.repeat(10_000), everyMs: 50 })
  const url = `${running.url}/api/chat`
  const ask = (user: string, id: number) =>
    fetch(url, {
      method: 'POST',
      headers: { ...headersOf(user), 'content-type': 'application/json' },
      body: JSON.stringify({ id: `${id}` }),
    })
  // A response that nothing refers to is given up by `fetch`, and an answer without a reader makes room for the next one.
  const responses: Response[] = []

  for (let id = 0; id < 11; id += 1) responses.push(await ask('ada', id))
  const other = await ask('grace', 0)

  assert.deepEqual(
    responses.map(({ status }) => status),
    [...Array(10).fill(200), 429],
  )
  assert.equal(other.status, 200)
})

const headersOf = (user: string) => ({ authorization: `Bearer ${user}-token` })

async function chat(t: TestContext, options: ChatThatSurvivesOptions) {
  const running = await start(options)
  t.after(() => running.close())
  const transport = (user: string) =>
    new DefaultChatTransport({ api: `${running.url}/api/chat`, headers: headersOf(user) })
  const messages: UIMessage[] = [{ id: '1', role: 'user', parts: [{ type: 'text', text: 'count' }] }]
  const ask = (abortSignal?: AbortSignal) =>
    transport('ada').sendMessages({
      trigger: 'submit-message',
      chatId: '7',
      messageId: undefined,
      messages,
      abortSignal,
    })
  return { running, transport, ask }
}

async function textOf(stream: ReadableStream<UIMessageChunk> | null): Promise<string> {
  assert.ok(stream)
  let text = ''
  for await (const { parts } of readUIMessageStream({ stream, terminateOnError: true })) {
    text = parts.map((part) => (part.type === 'text' ? part.text : '')).join('')
  }
  return text
}
