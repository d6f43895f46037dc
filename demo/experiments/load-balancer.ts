// What stands between most apps and their users: something that closes connections on which nothing has moved for a
// while. Sixty seconds is usual; here it is short, so that nobody has to wait.
import { get } from 'node:http'
import { type AddressInfo, connect, createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { idleLimitMs } from './patience.ts'

export interface IdleResult {
  /** When the connection was cut; null when it held. */
  readonly cutAfterMs: number | null
}

export async function throughLoadBalancer(port: number, path: string, forMs: number): Promise<IdleResult> {
  const balancer = createServer((client) => {
    const app = connect(port, '127.0.0.1')
    client.pipe(app).pipe(client)
    for (const socket of [client, app]) socket.on('error', () => {})
    const cut = () => {
      client.destroy()
      app.destroy()
    }
    client.setTimeout(idleLimitMs, cut)
    client.once('close', cut)
    app.once('close', cut)
  })
  await new Promise<void>((resolve) => balancer.listen(0, '127.0.0.1', resolve))

  const since = performance.now()
  const cut = new Promise<number>((resolve) => {
    const cutNow = () => resolve(Math.round(performance.now() - since))
    const request = get({ port: (balancer.address() as AddressInfo).port, path, agent: false }, (res) => {
      res.on('error', () => {})
      res.once('close', cutNow)
      res.resume()
      void delay(forMs).then(() => request.destroy())
    })
    request.on('error', cutNow)
  })
  const cutAfterMs = await Promise.race([cut, delay(forMs - 100).then(() => null)])
  balancer.close()
  return { cutAfterMs }
}
