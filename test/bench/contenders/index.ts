// Who is measured.

import { existsSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { compiled } from '../compile.ts'
import { haproxyConfig, haproxyHttp2Config, haproxyTlsConfig } from './haproxy.ts'
import { nginxConfig, nginxTlsConfig } from './nginx.ts'
import type { Host, Place } from './place.ts'

export interface Command {
  readonly file: string
  readonly args: readonly string[]
}

/** Another program, which listens at a port. */
export interface Companion extends Command {
  readonly port: number
}

export interface Contender {
  readonly name: string
  readonly about: string
  /** Absent for the direct connection; gives undefined where the program is not installed. */
  readonly command?: (place: Place, folder: string) => Command | undefined
  readonly quick?: true
  /** What has to run beside it and is not measured, in this order; undefined where it is not installed. */
  readonly companions?: (place: Place, folder: string) => readonly Companion[] | undefined
  /** Another node has opened its streams before. */
  readonly follows?: true
  /** Serves many clients of one URL from one upstream connection. */
  readonly shares?: true
  /** Asks the upstream over TLS, and is measured apart. */
  readonly tls?: true
  /** What such a one is compared with. */
  readonly besideShare?: true
  /** The server that it stands in, where that is another than the others'; compared with piping there, and apart. */
  readonly host?: Host
  /** Polls for its clients. */
  readonly polls?: true
  /** The names of the only measures that it is there for. */
  readonly measures?: readonly string[]
}

export const pipe = 'pipe'

const nodesRuns = [
  'nodes-latency',
  'nodes-key-1',
  'nodes-key-100',
  'nodes-commands-1',
  'nodes-commands-1000',
  'nodes-rest-1',
  'nodes-rest-200',
  'nodes-memory',
]

export const contenders: readonly Contender[] = [
  { name: 'direct', about: 'no proxy: what the load generator can do', quick: true, besideShare: true },
  { name: pipe, about: 'node:http on both sides and pipe()', command: node('pipe'), quick: true, besideShare: true },
  {
    name: 'http-proxy-middleware',
    about: 'in Express, with an unlimited agent',
    command: node('http-proxy-middleware'),
  },
  { name: 'http-proxy-3', about: 'on a bare server', command: node('http-proxy-3') },
  { name: 'fastify', about: '@fastify/http-proxy without undici’s limits', command: node('fastify-http-proxy') },
  {
    name: 'nginx',
    about: 'one worker',
    command: program('nginx', nginxConfig, '-p', '.', '-e', '/dev/null', '-c'),
    besideShare: true,
  },
  { name: 'haproxy', about: 'one thread', command: program('haproxy', haproxyConfig, '-db', '-f'), besideShare: true },
  { ...variant('sse-proxy', 'this package in Express, without options'), quick: true, besideShare: true },
  variant('sse-proxy:no-keepalive', 'keepalive: false'),
  variant('sse-proxy:keepalive', 'keepalive: 1000'),
  variant('sse-proxy:hook', 'a hook that leaves events alone'),
  variant('sse-proxy:json', 'a hook that parses an event’s JSON, changes it and writes it again'),
  {
    ...variant('sse-proxy:share', 'share, letting an upstream go with its last client (lingerMs: 0)'),
    quick: true,
    shares: true,
  },
  variant('sse-proxy:targets', 'three targets and resume: true'),
  {
    name: 'nginx:tls',
    about: 'HTTP/1.1 over TLS to the upstream; this release speaks no HTTP/2 to it',
    command: program('nginx', nginxTlsConfig, '-p', '.', '-e', '/dev/null', '-c'),
    tls: true,
  },
  {
    name: 'haproxy:tls',
    about: 'HTTP/1.1 over TLS to the upstream',
    command: program('haproxy', haproxyTlsConfig, '-db', '-f'),
    tls: true,
  },
  {
    name: 'haproxy:http2',
    about: 'HTTP/2 over TLS to the upstream',
    command: program('haproxy', haproxyHttp2Config, '-db', '-f'),
    tls: true,
  },
  { ...variant('sse-proxy:tls', 'this package, HTTP/1.1 over TLS to the upstream'), tls: true },
  { ...variant('sse-proxy:http2', "this package, http2: 'auto'"), tls: true },
  variant('sse-proxy:bare', 'this package on a bare server, as piping is'),
  { ...hosted('pipe', 'http2-server'), about: 'piping to clients that speak HTTP/2' },
  { ...hosted('sse-proxy', 'http2-server'), about: 'this package, and clients that speak HTTP/2' },
  { ...hosted('pipe', 'compression'), about: 'piping behind the middleware compression()' },
  { ...hosted('sse-proxy', 'compression'), about: 'this package behind the middleware compression()' },
  { ...variant('sse-proxy:lines', 'lines of JSON made events'), measures: ['warm-up', 'lines'] },
  { ...variant('sse-proxy:polls', 'an endpoint polled for each client'), polls: true, measures: ['warm-up', 'polls'] },
  { ...variant('sse-proxy:share-bare', 'the same with share'), shares: true },
  {
    ...variant('sse-proxy:store', 'share with Redis, the node that reads the upstream'),
    companions: redisServer,
    measures: ['warm-up', ...nodesRuns],
  },
  {
    ...variant('sse-proxy:store-follower', 'share with Redis, a node that follows what another one reads'),
    companions: redisServerAndOwner,
    follows: true,
    measures: ['warm-up', ...nodesRuns],
  },
]

function node(script: string, variant?: string, host?: Host): NonNullable<Contender['command']> {
  return (place) => ({
    file: process.execPath,
    args: [compiled(`contenders/${script}`), JSON.stringify({ ...place, variant, host })],
  })
}

function variant(name: string, about: string): Contender {
  return { name, about, command: node('sse-proxy', name) }
}

function hosted(script: string, host: Host): Pick<Contender, 'name' | 'command' | 'host'> {
  const name = `${script}:${host}`
  return { name, host, command: node(script, name, host) }
}

/** What a contender is compared with: piping in the same server. */
export function baseOf(contender: string): string {
  const host = contenders.find(({ name }) => name === contender)?.host
  return host ? `${pipe}:${host}` : pipe
}

function redisServer({ redisPort }: Place, folder: string): Companion[] | undefined {
  const file = findProgram('redis-server')
  const args = ['--port', `${redisPort}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder]
  return file === undefined ? undefined : [{ file, args, port: redisPort }]
}

function redisServerAndOwner(place: Place, folder: string): Companion[] | undefined {
  const owner = node('sse-proxy', 'sse-proxy:store')({ ...place, port: place.ownerPort }, folder)
  const redis = redisServer(place, folder)
  return redis && owner && [...redis, { ...owner, port: place.ownerPort }]
}

/** A program that takes a file of settings as its last argument. */
function program(
  name: string,
  config: (place: Place, folder: string) => string,
  ...args: string[]
): NonNullable<Contender['command']> {
  return (place, folder) => {
    const file = findProgram(name)
    if (!file) return undefined
    const settings = join(folder, `${name}.conf`)
    writeFileSync(settings, config(place, folder))
    return { file, args: [...args, settings] }
  }
}

function findProgram(name: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']
  return folders.map((folder) => join(folder, name)).find(existsSync)
}
