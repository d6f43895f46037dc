// A client that asks for a stream and then reads nothing: a laptop that was closed, a page in the background.
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Via } from '../upstreams/backend.ts'
import type { Flood } from '../upstreams/flood.ts'

export interface StallResult {
  /** What the upstream had sent until it was stopped. */
  readonly bytes: number
  /** When the upstream was given back; null when it was held to the end of the watch. */
  readonly releasedAfterMs: number | null
  readonly watchedMs: number
}

const watchMs = 5000

export async function stallClient(port: number, path: string, via: Via, flood: Flood): Promise<StallResult> {
  const client = connect(port, '127.0.0.1')
  client.on('error', () => {})
  client.pause()
  client.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAccept: text/event-stream\r\n\r\n`)
  const since = performance.now()
  let bytes = 0
  let opened = false
  let releasedAfterMs: number | null = null
  while (performance.now() - since < watchMs && releasedAfterMs === null) {
    await delay(50)
    const isOpen = flood.backend.countStreams(via) > 0
    opened ||= isOpen
    if (isOpen) bytes = flood.sent(via)
    else if (opened) releasedAfterMs = Math.round(performance.now() - since)
  }
  client.destroy()
  return { bytes, releasedAfterMs, watchedMs: watchMs }
}
