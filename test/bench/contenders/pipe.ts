// The least that node:http can do: a request, and pipe() between the two sides. What the others are compared with.

import { Agent, createServer, request } from 'node:http'
import { backlog, port, upstreamPorts } from './serve.ts'

const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY })

createServer((req, res) => {
  const { method, url: path, headers } = req
  const outgoing = request({ host: '127.0.0.1', port: upstreamPorts[0], method, path, headers, agent }, (answer) => {
    res.writeHead(answer.statusCode ?? 502, answer.headers)
    answer.on('error', () => res.destroy())
    answer.pipe(res)
  })
  outgoing.on('error', () => res.destroy())
  res.on('close', () => outgoing.destroy())
  req.pipe(outgoing)
}).listen(port, '127.0.0.1', backlog)
