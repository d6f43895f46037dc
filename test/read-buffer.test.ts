// Where what a connection reads lies: with a borrower in the connection's own buffer, again and again, else in memory of its own.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { type Borrower, connectLending, lendReads } from '../src/read-buffer.ts'

/** What a connection reads, whichever way that comes. */
class Reads implements Borrower {
  readonly borrowed: Buffer[] = []
  readonly pushed: Buffer[] = []
  /** Whether it borrows what is read next, and keeps what it has borrowed. */
  borrows = true
  kept: (memory: Buffer) => boolean = () => false

  borrow(read: Buffer): boolean {
    if (this.borrows) this.borrowed.push(read)
    return this.borrows
  }

  keeps(memory: Buffer): boolean {
    return this.kept(memory)
  }
}

interface Pair {
  readonly socket: Socket
  readonly reads: Reads
  /** Has the other side write, and waits until all of it is read. */
  write(text: string): Promise<void>
}

async function arrange(t: TestContext): Promise<Pair> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const socket = connectLending((onread) => connect({ port, host: '127.0.0.1', onread }))
  const [other]: Socket[] = await once(server, 'connection')
  t.after(() => {
    socket.destroy()
    other?.destroy()
    server.close()
  })
  const reads = new Reads()
  socket.on('data', (read: Buffer) => reads.pushed.push(read))
  return {
    socket,
    reads,
    async write(text) {
      const bytes = socket.bytesRead + text.length
      other?.write(text)
      while (socket.bytesRead < bytes) await new Promise((resolve) => setImmediate(resolve))
    },
  }
}

test('what is not borrowed lies in memory of its own, no larger than it needs', async (t) => {
  const { reads, write } = await arrange(t)

  for (const text of ['one', 'two', 'x'.repeat(900)]) await write(text)

  assert.deepEqual(reads.pushed.map(String), ['one', 'two', 'x'.repeat(900)])
  assert.equal(new Set(reads.pushed.map(({ buffer }) => buffer)).size, 3)
  assert.deepEqual(
    reads.pushed.map(({ buffer }) => buffer.byteLength),
    [3, 3, 1024],
  )
})

test('what is borrowed lies in the same memory each time', async (t) => {
  const { socket, reads, write } = await arrange(t)
  lendReads(socket, reads)

  for (const text of ['one', 'two', 'six']) await write(text)

  assert.deepEqual(reads.borrowed.map(String), ['six', 'six', 'six'])
  assert.equal(reads.pushed.length, 0)
})

test('memory that the borrower keeps is not read into, until it keeps it no longer', async (t) => {
  const { socket, reads, write } = await arrange(t)
  lendReads(socket, reads)
  reads.kept = ({ buffer }) => buffer === reads.borrowed[0]?.buffer

  for (const text of ['one', 'two', 'six']) await write(text)
  const whileKept = reads.borrowed.map(String)
  reads.kept = () => false
  for (const text of ['10th', '11th']) await write(text)

  assert.deepEqual(whileKept, ['one', 'six', 'six'])
  assert.equal(new Set(reads.borrowed.map(({ buffer }) => buffer)).size, 2)
})

test('a read that the borrower does not want comes like any other', async (t) => {
  const { socket, reads, write } = await arrange(t)
  lendReads(socket, reads)
  await write('one')
  reads.borrows = false

  for (const text of ['two', 'six']) await write(text)
  reads.borrows = true
  await write('ten')

  assert.deepEqual(reads.pushed.map(String), ['two', 'six'])
  assert.deepEqual(reads.borrowed.map(String), ['ten', 'ten'])
})

test('behind what the socket holds nothing is borrowed', async (t) => {
  const { socket, reads, write } = await arrange(t)
  socket.pause()
  lendReads(socket, reads)
  socket.push(Buffer.from('first'))

  socket.read(0)
  await write('second')
  const whilePaused = reads.borrowed.length
  socket.resume()
  await write('third')

  assert.equal(whilePaused, 0)
  assert.deepEqual([reads.pushed.map(String).join(), reads.borrowed.map(String).join()], ['first,second', 'third'])
})

test('without a borrower reads come like any others again', async (t) => {
  const { socket, reads, write } = await arrange(t)
  lendReads(socket, reads)
  await write('one')

  lendReads(socket, undefined)
  await write('two')

  assert.deepEqual([reads.borrowed.length, reads.pushed.map(String).join()], [1, 'two'])
})

test('a read that fills the memory is followed by one into a large buffer, which is not kept', async (t) => {
  const { socket, reads, write } = await arrange(t)
  lendReads(socket, reads)

  await write('x'.repeat(20_000))
  await write('small')

  assert.deepEqual(
    reads.borrowed.map(({ length, buffer }) => [length, buffer.byteLength]),
    [
      [1024, 1024],
      [20_000 - 1024, 65_536],
      [5, 1024],
    ],
  )
})

test('after many large reads the large buffer is kept, until a small one', async (t) => {
  const { socket, reads, write } = await arrange(t)
  lendReads(socket, reads)
  for (let i = 0; i < 12; i++) await write('x'.repeat(60_000))
  const large = reads.borrowed.at(-1)?.buffer
  reads.borrowed.length = 0

  await write('x'.repeat(60_000))
  for (let i = 0; i < 2; i++) await write('small')

  assert.deepEqual(
    reads.borrowed.map(({ buffer }) => buffer === large),
    [true, true, false],
  )
  assert.equal(reads.borrowed.at(-1)?.buffer.byteLength, 1024)
})

test('what a socket without such memory reads cannot be borrowed', async (t) => {
  const { socket } = await arrange(t)
  const plain = connect(socket.remotePort ?? 0, '127.0.0.1')
  t.after(() => plain.destroy())

  assert.doesNotThrow(() => lendReads(plain, new Reads()))
})
