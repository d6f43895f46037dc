import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { DefaultChatTransport, readUIMessageStream, type UIMessage } from 'ai'
import { start } from '../../demo/recipes/whole-answers.ts'

const answer = 'one two three four'

test('half an answer with a clean end passes for a whole one where the chat asks the backend itself', async (t) => {
  const { providerUrl } = await answers(t, 2)

  assert.deepEqual(await chat(providerUrl), { text: 'one two ', error: undefined })
})

test('half an answer with a clean end is an error of the chat', async (t) => {
  const { url } = await answers(t, 2)

  const { text, error } = await chat(url)

  assert.equal(text, 'one two ')
  assert.match(String(error), /not complete/)
})

test('a whole answer is one in the chat', async (t) => {
  const { url } = await answers(t, 4)

  assert.deepEqual(await chat(url), { text: answer, error: undefined })
})

async function answers(t: TestContext, wordsMade: number) {
  const running = await start({ answer, wordsMade })
  t.after(() => running.close())
  return running
}

/** What `useChat` does with an answer: the text it has of it, and its error. */
async function chat(url: string): Promise<{ text: string; error: unknown }> {
  const transport = new DefaultChatTransport({ api: `${url}/api/chat` })
  const messages: UIMessage[] = [{ id: '1', role: 'user', parts: [{ type: 'text', text: 'count' }] }]
  let text = ''
  try {
    const stream = await transport.sendMessages({
      trigger: 'submit-message',
      chatId: '1',
      messageId: undefined,
      messages,
      abortSignal: undefined,
    })
    for await (const { parts } of readUIMessageStream({ stream, terminateOnError: true })) {
      text = parts.map((part) => (part.type === 'text' ? part.text : '')).join('')
    }
    return { text, error: undefined }
  } catch (error) {
    return { text, error }
  }
}
