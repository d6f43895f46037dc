// http-proxy-3 on a bare server.

import { createServer, ServerResponse } from 'node:http'
import { createProxyServer } from 'http-proxy-3'
import { backlog, port, upstream } from './serve.ts'

const proxy = createProxyServer({ target: upstream })
proxy.on('error', (_error, _req, res) => {
  if (res instanceof ServerResponse) res.destroy()
})
createServer((req, res) => proxy.web(req, res)).listen(port, '127.0.0.1', backlog)
