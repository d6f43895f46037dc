// The least that node:http can do: a request, and pipe() between the two sides. What the others are compared with.

import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { serve, upstreamPorts } from './serve.ts'

const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY })

await serve((req, res) => {
  const { method, url: path, httpVersionMajor } = req
  const isHttp2 = httpVersionMajor > 1
  const headers = isHttp2 ? withoutPseudoHeaders(req.headers) : req.headers
  const outgoing = request({ host: '127.0.0.1', port: upstreamPorts[0], method, path, headers, agent }, (answer) => {
    res.writeHead(answer.statusCode ?? 502, isHttp2 ? withoutHopByHop(answer.headers) : answer.headers)
    answer.on('error', () => res.destroy())
    answer.pipe(res)
  })
  outgoing.on('error', () => res.destroy())
  res.on('close', () => outgoing.destroy())
  req.pipe(outgoing)
})

function withoutPseudoHeaders(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith(':')))
}

function withoutHopByHop({
  connection: _,
  'transfer-encoding': __,
  ...headers
}: IncomingHttpHeaders): IncomingHttpHeaders {
  return headers
}
