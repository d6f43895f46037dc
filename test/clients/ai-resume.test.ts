// The chat of the `ai` package that resumes its stream (`useChat({ resume: true })`), before an endpoint that knows nothing
// of it: the transport POSTs the question, and asks with GET whether an answer is under way.
import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { type TestContext, test } from 'node:test'
import { DefaultChatTransport, readUIMessageStream, type UIMessage, type UIMessageChunk } from 'ai'
import express from 'express'
import { chats } from '../support/outliving.ts'
import type { Room } from '../support/sharing.ts'
import type { EventStream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const question: UIMessage = { id: '1', role: 'user', parts: [{ type: 'text', text: 'count' }] }

/** The chat of a request: in the body of a question, in the path of everything else. */
const key = (req: IncomingMessage & { body?: { id?: string } }): string | undefined => {
  const chat = req.body?.id ?? req.url?.split('/')[1]
  return chat && JSON.stringify([req.headers['x-user'], chat])
}

test('before the answer there is nothing to resume', async (t) => {
  const room = await aiChats(t)

  assert.equal(await transportOf(room).reconnectToStream({ chatId: '7' }), null)
  assert.equal(room.upstream.exchanges.length, 0)
})

test('a page that is reloaded in the middle of the answer, a second tab, and the first have all of it', async (t) => {
  const room = await aiChats(t)
  const reloaded = new AbortController()
  const asking = ask(room, reloaded.signal)
  const stream = await answer(room)
  say(stream, 'one ')
  await until(() => asking.text === 'one ', 'the first word')
  const first = await reader(room)

  reloaded.abort()
  await until(() => asking.isOver, 'the page to have left')
  say(stream, 'two ')
  const second = await reader(room)
  say(stream, 'three')
  finish(stream)

  for (const { whole } of [first, second]) assert.equal(await whole, 'one two three')
  assert.equal(room.upstream.exchanges.length, 1)
})

test('a page that is reloaded before the answer begins has all of it', async (t) => {
  const room = await aiChats(t)
  const reloaded = new AbortController()
  const asking = ask(room, reloaded.signal)
  const exchange = await room.upstream.next()
  await exchange.body()
  reloaded.abort()
  await until(() => asking.isOver, 'the page to have left')

  const resuming = transportOf(room).reconnectToStream({ chatId: '7' })
  await room.arrivals(2)
  const stream = exchange.stream()
  begin(stream)
  say(stream, 'one')
  finish(stream)

  assert.equal(await wholeOf(await resuming), 'one')
})

test('after the answer there is nothing to resume, or with keepEndedMs all of it', async (t) => {
  for (const keepEndedMs of [0, 60_000]) {
    const room = await aiChats(t, { keepEndedMs })
    const asking = ask(room)
    const stream = await answer(room)
    say(stream, 'one')
    finish(stream)
    await asking.whole

    const resumed = await transportOf(room).reconnectToStream({ chatId: '7' })

    if (keepEndedMs === 0) assert.equal(resumed, null)
    else assert.equal(await wholeOf(resumed), 'one')
  }
})

test('an answer that breaks is an error in every tab, and in one that comes after it', async (t) => {
  const room = await aiChats(t, { keepEndedMs: 60_000 })
  const asking = ask(room)
  const stream = await answer(room)
  say(stream, 'one ')
  const { whole } = await reader(room)
  await until(() => asking.text === 'one ', 'the first word')

  stream.cut()

  await assert.rejects(whole)
  await assert.rejects(asking.whole)
  await assert.rejects(async () => wholeOf(await transportOf(room).reconnectToStream({ chatId: '7' })))
})

test('who stops the answer stops it for every tab and for the provider, and leaves nothing to resume', async (t) => {
  const room = await aiChats(t)
  const asking = ask(room)
  const stream = await answer(room)
  say(stream, 'one ')
  const { whole } = await reader(room)

  const stopped = await fetch(`${room.front.url}/7`, { method: 'DELETE', headers: { 'x-user': 'ada' } })

  assert.equal(stopped.status, 204)
  assert.deepEqual(await Promise.all([whole, asking.whole]), ['one ', 'one '])
  await room.upstream.exchanges[0]?.leftByPeer()
  assert.equal(await transportOf(room).reconnectToStream({ chatId: '7' }), null)
})

test('another user resumes nothing of it', async (t) => {
  const room = await aiChats(t)
  ask(room)
  await answer(room)

  assert.equal(await transportOf(room, 'eve').reconnectToStream({ chatId: '7' }), null)
})

function aiChats(t: TestContext, share: Parameters<typeof chats>[1] = {}): Promise<Room> {
  return chats(t, { key, ...share }, {}, { mount: '/api/chat', before: [express.json()] })
}

function transportOf({ front }: Room, user = 'ada') {
  return new DefaultChatTransport({ api: front.url, headers: { 'x-user': user } })
}

/** Asks, and reads along as a page does. */
function ask(room: Room, abortSignal?: AbortSignal) {
  const asking = { text: '', isOver: false, whole: Promise.resolve('') }
  const sent = transportOf(room).sendMessages({
    trigger: 'submit-message',
    chatId: '7',
    messageId: undefined,
    messages: [question],
    abortSignal,
  })
  asking.whole = sent
    .then((stream) => wholeOf(stream, (text) => Object.assign(asking, { text })))
    .finally(() => {
      asking.isOver = true
    })
  asking.whole.catch(() => {})
  return asking
}

/** A tab that has resumed, and has begun to read. */
async function reader(room: Room): Promise<{ whole: Promise<string> }> {
  const whole = wholeOf(await transportOf(room).reconnectToStream({ chatId: '7' }))
  whole.catch(() => {})
  return { whole }
}

async function wholeOf(stream: ReadableStream<UIMessageChunk> | null, onText = (_text: string) => {}): Promise<string> {
  assert.ok(stream)
  let text = ''
  for await (const { parts } of readUIMessageStream({ stream, terminateOnError: true })) {
    text = parts.map((part) => (part.type === 'text' ? part.text : '')).join('')
    onText(text)
  }
  return text
}

/** The provider's side. */
async function answer({ upstream }: Room): Promise<EventStream> {
  const exchange = await upstream.next()
  const { messages } = JSON.parse(String(await exchange.body()))
  assert.deepEqual(messages, [question])
  const stream = exchange.stream({ 'x-vercel-ai-ui-message-stream': 'v1' })
  begin(stream)
  return stream
}

const send = (stream: EventStream, chunk: UIMessageChunk): void => stream.send({ data: JSON.stringify(chunk) })

function begin(stream: EventStream): void {
  send(stream, { type: 'start' })
  send(stream, { type: 'text-start', id: '1' })
}

const say = (stream: EventStream, delta: string): void => send(stream, { type: 'text-delta', id: '1', delta })

function finish(stream: EventStream): void {
  send(stream, { type: 'text-end', id: '1' })
  send(stream, { type: 'finish' })
  stream.end('data: [DONE]\n\n')
}
