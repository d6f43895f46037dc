// Between a TLS client and a TLS server: passes bytes on, until it is told to end the connection in the middle of a record.
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'

export interface CuttingRelay {
  readonly port: number
  /** The server's next record: half of it, then FIN. */
  cutNext(): void
}

export async function startCuttingRelay(t: TestContext, serverPort: number): Promise<CuttingRelay> {
  const sockets = new Set<Socket>()
  let cuts = false
  const server = createServer({ noDelay: true }, (client) => {
    const upstream = connect({ host: '127.0.0.1', port: serverPort, noDelay: true })
    let unsent: Buffer = Buffer.alloc(0)
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('error', () => {})
    }
    client.on('data', (bytes) => upstream.write(bytes))
    client.on('close', () => upstream.destroy())
    upstream.on('close', () => client.destroy())
    upstream.on('data', (bytes: Buffer) => {
      unsent = Buffer.concat([unsent, bytes])
      // A record's length is in its fourth and fifth byte.
      while (unsent.length >= 5 && unsent.length >= 5 + unsent.readUInt16BE(3)) {
        const record = unsent.subarray(0, 5 + unsent.readUInt16BE(3))
        unsent = unsent.subarray(record.length)
        if (!cuts) client.write(record)
        else if (!client.writableEnded) client.end(record.subarray(0, record.length >> 1))
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  })
  return {
    port: (server.address() as AddressInfo).port,
    cutNext() {
      cuts = true
    },
  }
}
