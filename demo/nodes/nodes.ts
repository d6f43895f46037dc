// Three processes of an app over one Redis, and the feed that they have in common. Nothing of it runs before somebody wants to
// see it, and nothing is left when the demo ends.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Ticker } from '../upstreams/ticker.ts'
import { RedisServer } from './redis-server.ts'

export interface Node {
  readonly name: string
  readonly url: string
  readonly process: ChildProcess
}

const names = ['node A', 'node B', 'node C']
const program = fileURLToPath(new URL('node.ts', import.meta.url))
const ownerMs = 5000

export class Nodes {
  readonly feed = new Ticker('feed')
  readonly #running = new Map<string, Node>()
  // Those that are about to run too.
  readonly #processes = new Set<ChildProcess>()
  #redis: RedisServer | undefined

  get running(): readonly Node[] {
    return [...this.#running.values()]
  }

  /** Names of those that were killed, once there were any. */
  get dead(): readonly string[] {
    return this.#redis ? names.filter((name) => !this.#running.has(name)) : []
  }

  /** Starts Redis and all nodes, at the first call. */
  async startOnce(): Promise<void> {
    if (this.#redis) return
    const redis = await RedisServer.start()
    await this.feed.start()
    this.#redis = redis
    await Promise.all(names.map((name) => this.start(name)))
  }

  async start(name: string): Promise<Node> {
    const child = fork(program, {
      execArgv: ['--import', 'tsx'],
      env: {
        ...process.env,
        REDIS_PORT: String(this.#redis?.port),
        TARGETS: this.feed.backends.map(({ url }) => url).join(' '),
      },
    })
    this.#processes.add(child)
    child.once('exit', () => {
      this.#processes.delete(child)
      if (this.#running.get(name)?.process === child) this.#running.delete(name)
    })
    const failed = once(child, 'exit').then(([code]) => {
      throw new Error(`${name} did not start: exit code ${code}`)
    })
    const [url] = await Promise.race([once(child, 'message'), failed])
    const node = { name, url: String(url), process: child }
    this.#running.set(name, node)
    return node
  }

  /** As the kernel does where memory is short: no signal handler, no goodbye. */
  async kill({ name, process }: Node): Promise<void> {
    this.#running.delete(name)
    const exit = once(process, 'exit')
    process.kill('SIGKILL')
    await exit
  }

  /** The node that reads the feed for all. */
  async owner(): Promise<Node> {
    const deadline = Date.now() + ownerMs
    while (Date.now() < deadline) {
      for (const node of this.running) {
        if ((await (await fetch(`${node.url}/owned`)).json()) > 0) return node
      }
      await delay(50)
    }
    throw new Error('no node reads the feed')
  }

  async stop(): Promise<void> {
    this.#running.clear()
    const ends = [...this.#processes].map((process) => once(process, 'exit'))
    for (const process of this.#processes) process.kill('SIGKILL')
    await Promise.all(ends)
    await this.#redis?.stop()
    await this.feed.stop()
  }
}
