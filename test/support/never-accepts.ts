// A port on which a connection is never established: the listener does not accept and its queue is full, so the kernel
// leaves every further SYN without an answer.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { Worker } from 'node:worker_threads'
import { within } from './waiting.ts'

const listener = `
  const { createServer } = require('node:net')
  const { parentPort } = require('node:worker_threads')
  const server = createServer()
  server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
    parentPort.postMessage(server.address().port)
    setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0))
  })
`

export interface NeverAccepting {
  port: number
  url: string
  close(): Promise<void>
}

export async function startNeverAccepting(): Promise<NeverAccepting> {
  const worker = new Worker(listener, { eval: true })
  const port = await within(
    new Promise<number>((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    }),
    'the listener to start',
  )
  const fillers = await fillQueue(port)
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    async close() {
      for (const filler of fillers) filler.destroy()
      await worker.terminate()
    },
  }
}

/** Linux has a queue for one more than the backlog. */
async function fillQueue(port: number): Promise<Socket[]> {
  const fillers = [1, 2].map(() => connect({ host: '127.0.0.1', port }).on('error', () => {}))
  await within(Promise.all(fillers.map((filler) => once(filler, 'connect'))), 'the queue of the listener to fill')
  return fillers
}
