// Where what a connection reads lies: with a borrower in the connection's own buffer, again and again, else in memory of its own.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type OnReadOpts, Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { type Borrower, connectLending, lendReads } from '../src/read-buffer.ts'

/** What a connection reads, whichever way that comes. */
class Reads implements Borrower {
  readonly borrowed: Buffer[] = []
  readonly pushed: Buffer[] = []
  /** Whether it borrows what is read next, and keeps what it has borrowed. */
  borrows = true
  kept: (memory: Buffer) => boolean = () => false
  takesHuge = true
  /** Called with each read into a huge buffer, which is not remembered. */
  onHuge: (() => void) | undefined

  borrow(read: Buffer): boolean {
    if (this.onHuge) {
      if (read.buffer.byteLength === HUGE) this.onHuge()
      return true
    }
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
    other?.destroy()
    server.close()
    return closed(socket)
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

const LARGE = 65_536
const HUGE = 8 * LARGE

/** A connection that reads as much as there is room for, by the calls that Node makes: how much the kernel has at a time is its affair. */
function filled(t: TestContext, reads: Reads): { socket: Socket; read: (length?: number) => number } {
  const socket = new Socket()
  let onread: OnReadOpts | undefined
  connectLending((given) => {
    onread = given
    return socket
  })
  t.after(() => closed(socket))
  assert.ok(onread)
  const { buffer, callback } = onread
  lendReads(socket, reads)
  return {
    socket,
    /** Returns how much it had room for. */
    read(length = HUGE) {
      const memory = typeof buffer === 'function' ? buffer() : buffer
      callback(Math.min(length, memory.length), memory)
      return memory.length
    },
  }
}

async function closed(socket: Socket): Promise<void> {
  if (socket.closed) return
  socket.destroy()
  await once(socket, 'close')
}

/** The room of so many reads in a row. */
const rooms = (read: () => number, count: number) => Array.from({ length: count }, () => read())
const large = Array.from({ length: 8 }, () => LARGE)

test('after many reads that have filled a large buffer a huge one is read into, until a smaller read', (t) => {
  const { read } = filled(t, new Reads())

  const first = rooms(read, 11)
  const more = [read(LARGE), read(LARGE - 1), read(), read(1000), read()]

  assert.deepEqual(first, [1024, ...large, HUGE, HUGE])
  assert.deepEqual(more, [HUGE, HUGE, LARGE, LARGE, 1024])
})

test('behind a huge read all others have their turn, and then it reads on', async (t) => {
  const { socket, reads, write } = await arrange(t)
  let inThisTurn = 0
  let most = 0
  let huge = 0
  reads.onHuge = () => {
    if (inThisTurn++ === 0) setImmediate(() => (inThisTurn = 0))
    most = Math.max(most, inThisTurn)
    huge++
  }
  lendReads(socket, reads)

  // How much the kernel has at a time is its affair.
  for (let i = 0; i < 50 && huge < 20; i++) await write('x'.repeat(8 * 1024 * 1024))

  assert.ok(huge >= 20, `${huge} huge reads`)
  assert.equal(most, 1)
})

test('a connection that is paused behind a huge read is read on when it is not any more', async (t) => {
  const { socket, reads, write } = await arrange(t)
  let pausedAt = 0
  let whilePaused = 0
  let pauses = 0
  const resume = () => {
    whilePaused += socket.bytesRead - pausedAt
    socket.resume()
  }
  reads.onHuge = () => {
    if (pauses === 5) return
    pauses++
    socket.pause()
    pausedAt = socket.bytesRead
    setImmediate(() => setImmediate(() => setImmediate(resume)))
  }
  lendReads(socket, reads)

  for (let i = 0; i < 50 && pauses < 5; i++) await write('x'.repeat(8 * 1024 * 1024))

  assert.deepEqual([pauses, whilePaused], [5, 0])
})

test('only reads in a row count', (t) => {
  const { read } = filled(t, new Reads())

  rooms(read, 8)
  read(LARGE - 1)

  assert.deepEqual(rooms(read, 9), [...large, HUGE])
})

for (const [name, change] of [
  ['for a borrower that looks at what it reads', { takesHuge: false }],
  ['while several reads are kept', { kept: () => true }],
  ['while nothing is borrowed', { borrows: false }],
] as const) {
  test(`there is no huge buffer ${name}`, (t) => {
    const reads = new Reads()
    const { socket, read } = filled(t, Object.assign(reads, change))
    socket.on('data', () => {})

    assert.deepEqual(rooms(read, 20), [1024, ...large, ...large, LARGE, LARGE, LARGE])
  })
}

test('a huge buffer is read into where the start of an event is kept', (t) => {
  const reads = new Reads()
  const { read } = filled(t, reads)
  reads.kept = ({ buffer }) => buffer === reads.borrowed.at(-1)?.buffer

  assert.deepEqual(rooms(read, 10), [1024, ...large, HUGE])
})

test('all connections together keep 16 MiB, and a closed one gives back what it kept', async (t) => {
  const open = () => filled(t, new Reads())
  const first = open()
  const connections = [first, ...Array.from({ length: 31 }, open)]
  const before = connections.map(({ read }) => rooms(read, 10).at(-1))

  const tooMany = open()
  const refused = rooms(tooMany.read, 20)
  await closed(first.socket)
  const after = tooMany.read()

  assert.deepEqual(before, Array(32).fill(HUGE))
  assert.deepEqual(refused, [1024, ...Array(19).fill(LARGE)])
  assert.deepEqual([after, tooMany.read()], [LARGE, HUGE])
})

test('what a socket without such memory reads cannot be borrowed', async (t) => {
  const { socket } = await arrange(t)
  const plain = connect(socket.remotePort ?? 0, '127.0.0.1')
  t.after(() => plain.destroy())

  assert.doesNotThrow(() => lendReads(plain, new Reads()))
})
