// Ports for what comes up again at the same one, or is started by another program: the system gives them to no connection for
// its near end, nor to a server that asks for any port, so that they are free when they are wanted.
import { once } from 'node:events'
import { createServer } from 'node:net'

const FIRST = 20_000
const COUNT = 12_000
const TRIES = 100

/** @param listen rejects where the port is in use */
export async function atPortOfItsOwn<T>(listen: (port: number) => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await listen(FIRST + Math.floor(Math.random() * COUNT))
    } catch (error) {
      if (tries === TRIES) throw error
    }
  }
}

export function freePort(): Promise<number> {
  return atPortOfItsOwn(async (port) => {
    const server = createServer().listen(port, '127.0.0.1')
    await once(server, 'listening')
    server.close()
    await once(server, 'close')
    return port
  })
}
