// GraphQL over event streams, in both modes of graphql-sse, with its own client and handler and the proxy between them.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import express from 'express'
import { GraphQLInt, GraphQLObjectType, GraphQLSchema, GraphQLString } from 'graphql'
import { type Client, createClient } from 'graphql-sse'
import { createHandler } from 'graphql-sse/lib/use/http'
import { sseProxy } from 'sse-proxy-middleware'
import { startFront } from '../support/front.ts'
import { gate, within } from '../support/waiting.ts'

for (const singleConnection of [false, true]) {
  const mode = singleConnection ? 'single connection' : 'distinct connections'

  test(`a query, a subscription to its end, and one that is left (${mode})`, async (t) => {
    const left = gate()
    const client = await clientOf(t, singleConnection, left.open)

    const hello = await within(first(client, '{ hello }'), 'the answer')
    const counted = await within(all(client, 'subscription { count(to: 3) }'), 'the subscription')
    const forever = client.iterate<{ forever: number }>({ query: 'subscription { forever }' })
    const one = await within(forever.next(), 'an event')
    await forever.return?.()
    await within(left.promise, 'the server to hear that the client has left')

    assert.deepEqual(hello, { hello: 'world' })
    assert.deepEqual(counted, [{ count: 1 }, { count: 2 }, { count: 3 }])
    assert.deepEqual(one.value?.data, { forever: 1 })
  })
}

async function clientOf(t: TestContext, singleConnection: boolean, onLeft: () => void): Promise<Client<boolean>> {
  const handler = createHandler({
    schema: schemaWith(onLeft),
    // In the mode of one connection, results of all operations come on the stream that the token names.
    authenticate: (request) => String(request.headers.get('x-graphql-event-stream-token') ?? 'token'),
  })
  const server = createServer((req, res) => void handler(req, res))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const proxy = sseProxy({ target: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
  const front = await startFront('express5', proxy, { before: [express.json()] })
  const client = createClient({ url: front.url, singleConnection, retryAttempts: 0 })
  t.after(async () => {
    client.dispose()
    await front.close()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  return client as Client<boolean>
}

function schemaWith(onLeft: () => void): GraphQLSchema {
  const number = { type: GraphQLInt }
  return new GraphQLSchema({
    query: new GraphQLObjectType({
      name: 'Query',
      fields: { hello: { type: GraphQLString, resolve: () => 'world' } },
    }),
    subscription: new GraphQLObjectType({
      name: 'Subscription',
      fields: {
        count: {
          ...number,
          args: { to: number },
          async *subscribe(_root: unknown, { to }: { to: number }) {
            for (let count = 1; count <= to; count++) yield { count }
          },
        },
        forever: { ...number, subscribe: () => forever(onLeft) },
      },
    }),
  })
}

/** One event, and then none until the reader leaves. */
function forever(onLeft: () => void): AsyncIterableIterator<{ forever: number }> {
  let count = 0
  return {
    [Symbol.asyncIterator]() {
      return this
    },
    next: () =>
      count++ === 0 ? Promise.resolve({ done: false, value: { forever: 1 } }) : new Promise<never>(() => {}),
    return() {
      onLeft()
      return Promise.resolve({ done: true, value: undefined })
    },
  }
}

async function all(client: Client<boolean>, query: string): Promise<unknown[]> {
  const results: unknown[] = []
  for await (const { data } of client.iterate({ query })) results.push({ ...data })
  return results
}

async function first(client: Client<boolean>, query: string): Promise<unknown> {
  return (await all(client, query))[0]
}
