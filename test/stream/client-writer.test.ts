import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { test } from 'node:test'
import { ClientWriter } from '../../src/stream/client-writer.ts'

test('a client that takes a large event at once is not behind', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  t.after(() => {
    client.destroy()
    server.close()
  })
  client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  const [req, res] = (await once(server, 'request')) as [ServerResponse['req'], ServerResponse]
  const writer = new ClientWriter(req, res, true)
  writer.openStream({ status: 200, statusMessage: '', headers: [] })
  writer.flush()
  await once(client, 'data')

  // Above the mark from which on Node calls a connection full, and less than the kernel takes at once.
  const taken = writer.write(Buffer.alloc(100_000, 'x'))

  assert.equal(taken, true)
  assert.equal(writer.isBehind, false)
})
