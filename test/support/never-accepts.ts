// A port on which a connection is never established: the listener does not accept and its queue is full, so the kernel
// leaves every further SYN without an answer.
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

/** Connects until a connection is not established any more. */
async function fillQueue(port: number): Promise<Socket[]> {
  const fillers: Socket[] = []
  for (let count = 0; count < 8; count += 1) {
    const socket = connect({ host: '127.0.0.1', port })
    socket.on('error', () => {})
    fillers.push(socket)
    const isIn = await Promise.race([
      new Promise<boolean>((resolve) => socket.once('connect', () => resolve(true))),
      new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 200)),
    ])
    if (!isIn) return fillers
  }
  throw new Error('the queue of the listener does not fill')
}
