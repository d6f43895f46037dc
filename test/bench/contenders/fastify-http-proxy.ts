// @fastify/http-proxy, without undici's limits of 128 connections and of five minutes of silence.

import proxy from '@fastify/http-proxy'
import fastify from 'fastify'
import { backlog, port, upstream } from './serve.ts'

const app = fastify()
await app.register(proxy, { upstream, undici: { connections: 20_000, pipelining: 1, bodyTimeout: 0 } })
await app.listen({ port, host: '127.0.0.1', backlog })
