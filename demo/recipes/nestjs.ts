// NestJS with its Express adapter: the proxy is a middleware like any other, behind Nest's own body parser.
//
//   node --import tsx demo/recipes/nestjs.ts
//   curl -N -H 'authorization: Bearer demo' http://127.0.0.1:3000/events
import 'reflect-metadata'
import { type BeforeApplicationShutdown, type MiddlewareConsumer, Module, type NestModule } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import type { NestExpressApplication } from '@nestjs/platform-express'
import type { NextFunction, Request, Response } from 'express'
import { type SseProxy, sseProxy } from 'sse-proxy-middleware'
import type { Listening } from './support/listen.ts'
import { runAlone } from './support/run-alone.ts'
import { startTickingBackend } from './support/ticking-backend.ts'

function requireToken(req: Request, res: Response, next: NextFunction): void {
  if (req.headers.authorization === 'Bearer demo') next()
  else res.status(401).json({ error: 'sign in first' })
}

function eventsModule(events: SseProxy): new () => NestModule {
  @Module({})
  class EventsModule implements NestModule, BeforeApplicationShutdown {
    configure(consumer: MiddlewareConsumer): void {
      consumer.apply(requireToken, events).forRoutes('events')
    }

    // Nest closes its server after this: open streams end between two events, and are told when to come back.
    async beforeApplicationShutdown(): Promise<void> {
      await events.close({ withinMs: 5000 })
    }
  }
  return EventsModule
}

export async function start({ port = 0 }: { port?: number } = {}): Promise<Listening> {
  const backend = await startTickingBackend()
  const events = sseProxy({ target: `${backend.url}/ticks` })

  const app = await NestFactory.create<NestExpressApplication>(eventsModule(events), {
    logger: ['error'],
    // Open streams would hold app.close() up for ever.
    forceCloseConnections: true,
  })
  await app.listen(port, '127.0.0.1')

  return {
    url: await app.getUrl(),
    async close() {
      await app.close()
      await backend.close()
    },
  }
}

await runAlone(import.meta.url, start, (url) => `curl -N -H 'authorization: Bearer demo' ${url}/events`)
