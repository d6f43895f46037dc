// A Redis of the demo's own, in memory alone.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'

const startMs = 5000
// Redis does not look whether its parent is alive. The shell beside it does: its input ends when the demo does, however that is.
const untilInputEnds = 'redis-server "$@" & read -r _; kill -9 $!; wait'

export class RedisServer {
  readonly port: number
  readonly #shell: ChildProcess

  private constructor(port: number, shell: ChildProcess) {
    this.port = port
    this.#shell = shell
  }

  static async isInstalled(): Promise<boolean> {
    try {
      await promisify(execFile)('redis-server', ['--version'])
      return true
    } catch {
      return false
    }
  }

  static async start(): Promise<RedisServer> {
    const port = await freePort()
    const settings = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no']
    const shell = spawn('sh', ['-c', untilInputEnds, 'sh', ...settings], {
      cwd: tmpdir(),
      // In a group of its own: a Ctrl-C in the terminal is not for Redis, which the nodes need until they have ended.
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    const server = new RedisServer(port, shell)
    try {
      await accepting(port)
    } catch (error) {
      await server.stop()
      throw error
    }
    return server
  }

  async stop(): Promise<void> {
    const exit = once(this.#shell, 'exit')
    this.#shell.stdin?.end()
    await exit
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

async function accepting(port: number): Promise<void> {
  const deadline = Date.now() + startMs
  while (Date.now() < deadline) {
    const socket = connect(port, '127.0.0.1')
    try {
      await once(socket, 'connect')
      return
    } catch {
      await delay(20)
    } finally {
      socket.destroy()
    }
  }
  throw new Error(`redis-server does not accept connections after ${startMs / 1000} s`)
}
