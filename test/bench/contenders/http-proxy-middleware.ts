// http-proxy-middleware in Express as its README has it, with an agent that does not stop at 256 streams.

import { Agent } from 'node:http'
import express from 'express'
import { createProxyMiddleware } from 'http-proxy-middleware'
import { backlog, port, upstream } from './serve.ts'

const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY })
const app = express()
app.use(createProxyMiddleware({ target: upstream, changeOrigin: true, agent }))
app.listen(port, '127.0.0.1', backlog)
