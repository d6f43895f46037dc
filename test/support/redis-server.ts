// Real Redis servers, started for a test on loopback and ended by their pid: one, a cluster of three, or a primary with its
// replica and a sentinel. Nothing is written to disk but what a cluster and a sentinel cannot do without.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from './ports.ts'
import { until, within } from './waiting.ts'

/** Why tests with a server are skipped, or false. */
export const noRedis: string | false =
  spawnSync('redis-server', ['--version']).status === 0 ? false : 'redis-server is not installed'
export const noSentinel: string | false =
  spawnSync('redis-sentinel', ['--version']).status === 0 ? noRedis : 'redis-sentinel is not installed'

export class RedisServer {
  readonly port: number
  readonly #arguments: readonly string[]
  readonly #folder = mkdtempSync(join(tmpdir(), 'redis-'))
  #process: ChildProcess | undefined

  constructor(port: number, args: readonly string[] = []) {
    this.port = port
    this.#arguments = args
  }

  static async start(args: readonly string[] = []): Promise<RedisServer> {
    const server = new RedisServer(await freePort(), args)
    await server.start()
    return server
  }

  get folder(): string {
    return this.#folder
  }

  /** Starts it, without data. */
  async start(): Promise<void> {
    const settings = ['--port', `${this.port}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no']
    await this.spawn('redis-server', [...settings, '--dir', this.#folder, ...this.#arguments])
  }

  protected async spawn(program: string, args: readonly string[]): Promise<void> {
    let output = ''
    const server = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#process = server
    for (const stream of [server.stdout, server.stderr]) stream.on('data', (text) => (output += text))
    for (;;) {
      if (server.exitCode !== null) throw new Error(`${program} did not start: ${output}`)
      if (await accepts(this.port)) return
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal)
  }

  /** Ends it at once. */
  async kill(): Promise<void> {
    const server = this.#process
    if (!server || server.exitCode !== null || server.signalCode !== null) return
    const exited = once(server, 'exit')
    server.kill('SIGKILL')
    await exited
  }

  async restart(): Promise<void> {
    await this.kill()
    await this.start()
  }

  async end(): Promise<void> {
    await this.kill()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /** What redis-cli prints for a command, without a process for each: some are asked again and again. */
  async cli(...command: readonly string[]): Promise<string> {
    const [first, database = '', ...rest] = command
    if (first === '-n') return (await this.#answers(['SELECT', database], rest)).slice('OK\n'.length).trim()
    return (await this.#answers(command)).trim()
  }

  /** One line after the other, over a connection of their own. */
  async #answers(...commands: (readonly string[])[]): Promise<string> {
    const socket = connect(this.port, '127.0.0.1')
    const request = commands.map((words) => `*${words.length}\r\n${words.map(asBulk).join('')}`).join('')
    let answer = ''
    try {
      return await within(
        new Promise<string>((resolve, reject) => {
          socket.on('error', reject).on('close', () => reject(new Error(`no answer to ${commands.join()}: ${answer}`)))
          socket.setEncoding('latin1').on('data', (text: string) => {
            answer += text
            const printed = itemsOf(answer, commands.length)
            if (printed) resolve(printed.text)
          })
          socket.write(request, 'latin1')
        }),
        () => `an answer to ${commands.join()}`,
        10_000,
      )
    } finally {
      socket.destroy()
    }
  }

  /** Ends the connection by which the client of this name gets messages. */
  async endMessagesTo(name: string): Promise<void> {
    const clients = (await this.cli('CLIENT', 'LIST', 'TYPE', 'pubsub')).split('\n')
    const id = clients.map((line) => /^id=(\d+) .* name=(\S*) /.exec(line)).find((match) => match?.[2] === name)?.[1]
    if (id === undefined) throw new Error(`no client is called ${name}: ${clients}`)
    await this.cli('CLIENT', 'KILL', 'ID', id)
  }

  /** Every command that the server gets from now on, one a line, as MONITOR shows them. */
  async monitor(): Promise<{ lines(): readonly string[]; end(): void }> {
    const lines: string[] = []
    let unfinished = ''
    let hasBegun = false
    const socket = connect(this.port, '127.0.0.1', () => socket.write('MONITOR\r\n'))
    socket.setEncoding('latin1').on('data', (text: string) => {
      const whole = (unfinished + text).split('\r\n')
      unfinished = whole.pop() ?? ''
      if (!hasBegun) hasBegun = whole.shift() === '+OK'
      lines.push(...whole)
    })
    await until(() => hasBegun, 'MONITOR to begin')
    return { lines: () => lines, end: () => socket.destroy() }
  }
}

/** Three primaries with all slots between them. */
export class RedisCluster {
  readonly servers: RedisServer[]

  private constructor(servers: RedisServer[]) {
    this.servers = servers
  }

  static async start(): Promise<RedisCluster> {
    const servers = await Promise.all(
      [0, 1, 2].map(async () => {
        const bus = await freePort()
        const server = await RedisServer.start(clusterSettings(bus))
        return { server, bus }
      }),
    )
    const [first] = servers
    for (const [i, { server, bus }] of servers.entries()) {
      const from = Math.floor((16_384 * i) / servers.length)
      const to = Math.floor((16_384 * (i + 1)) / servers.length) - 1
      await server.cli('CLUSTER', 'ADDSLOTSRANGE', `${from}`, `${to}`)
      if (i > 0) await first?.server.cli('CLUSTER', 'MEET', '127.0.0.1', `${server.port}`, `${bus}`)
    }
    const cluster = new RedisCluster(servers.map(({ server }) => server))
    for (const server of cluster.servers) {
      await eventually(async () => {
        const info = await server.cli('CLUSTER', 'INFO')
        return info.includes('cluster_state:ok') && info.includes('cluster_known_nodes:3')
      }, 'the cluster to come together')
    }
    return cluster
  }

  /** A server that takes over from one of these when that has gone. */
  async replicaOf(primary: RedisServer): Promise<RedisServer> {
    const bus = await freePort()
    const replica = await RedisServer.start(clusterSettings(bus))
    this.servers.push(replica)
    await primary.cli('CLUSTER', 'MEET', '127.0.0.1', `${replica.port}`, `${bus}`)
    const id = await primary.cli('CLUSTER', 'MYID')
    await eventually(
      async () => (await replica.cli('CLUSTER', 'NODES')).includes(id),
      'the replica to know its primary',
    )
    await eventually(async () => (await replica.cli('CLUSTER', 'REPLICATE', id)) === 'OK', 'the replica to follow')
    await eventually(
      async () => (await replica.cli('INFO', 'replication')).includes('master_link_status:up'),
      'the replica to have all',
    )
    // The others vote for it only when they know what it is.
    for (const server of this.servers) {
      await eventually(
        async () => new RegExp(`slave ${id}`).test(await server.cli('CLUSTER', 'NODES')),
        'all to know of it',
      )
    }
    return replica
  }

  get ports(): number[] {
    return this.servers.map(({ port }) => port)
  }

  async end(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.end()))
  }
}

function clusterSettings(bus: number): string[] {
  return ['--cluster-enabled', 'yes', '--cluster-port', `${bus}`, '--cluster-node-timeout', '2000']
}

/** A primary, its replica, and a sentinel that makes the replica the primary when that has gone for a second. */
export class RedisSentinel extends RedisServer {
  readonly name = 'main'
  readonly primary: RedisServer
  readonly replica: RedisServer

  private constructor(port: number, primary: RedisServer, replica: RedisServer) {
    super(port)
    this.primary = primary
    this.replica = replica
  }

  static async watching(): Promise<RedisSentinel> {
    const primary = await RedisServer.start(['--repl-diskless-sync-delay', '0'])
    const replica = await RedisServer.start(['--replicaof', '127.0.0.1', `${primary.port}`])
    await eventually(
      async () => (await replica.cli('INFO', 'replication')).includes('master_link_status:up'),
      'the replica to follow',
    )
    const sentinel = new RedisSentinel(await freePort(), primary, replica)
    await sentinel.start()
    await eventually(
      async () => (await sentinel.cli('SENTINEL', 'REPLICAS', sentinel.name)).includes(`${replica.port}`),
      'the sentinel to know the replica',
    )
    return sentinel
  }

  override async start(): Promise<void> {
    const path = join(this.folder, 'sentinel.conf')
    const lines = [
      ...[`port ${this.port}`, 'bind 127.0.0.1', `dir ${this.folder}`],
      `sentinel monitor ${this.name} 127.0.0.1 ${this.primary.port} 1`,
      ...[`sentinel down-after-milliseconds ${this.name} 1000`, `sentinel failover-timeout ${this.name} 3000`],
    ]
    writeFileSync(path, lines.join('\n'))
    await this.spawn('redis-sentinel', [path])
  }

  override async end(): Promise<void> {
    await super.end()
    await Promise.all([this.primary.end(), this.replica.end()])
  }
}

/** Asks again and again: what is waited for happens in another process. */
export async function eventually(isSo: () => Promise<boolean>, what: string, ms = 15_000): Promise<void> {
  const deadline = Date.now() + ms
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error(`waited ${ms} ms for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    await new Promise((resolve) => setTimeout(resolve, 5))
    return false
  } finally {
    socket.destroy()
  }
}

/** A word of a command. */
function asBulk(word: string): string {
  const bytes = Buffer.from(word).toString('latin1')
  return `$${bytes.length}\r\n${bytes}\r\n`
}

/** As redis-cli prints it, and what comes after it. */
interface Printed {
  text: string
  rest: string
}

/** Nothing where it has not come whole. */
function itemOf(answer: string): Printed | undefined {
  const end = answer.indexOf('\r\n')
  if (end === -1) return undefined
  const [kind, value, rest] = [answer[0], answer.slice(1, end), answer.slice(end + 2)]
  if (kind === '*') return itemsOf(rest, Number(value))
  if (kind !== '$') return { text: value, rest }
  const length = Number(value)
  if (length === -1) return { text: '', rest }
  return rest.length < length + 2 ? undefined : { text: rest.slice(0, length), rest: rest.slice(length + 2) }
}

function itemsOf(answer: string, count: number): Printed | undefined {
  const texts: string[] = []
  let rest = answer
  for (let i = 0; i < count; i++) {
    const item = itemOf(rest)
    if (!item) return undefined
    texts.push(item.text)
    rest = item.rest
  }
  return { text: texts.join('\n'), rest }
}
