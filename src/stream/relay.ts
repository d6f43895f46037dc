// An answer that is no event stream, to its client: byte for byte, at the client's speed.

import type { AbortState } from '../abort.ts'
import { type SseProxyError, StreamError } from '../errors.ts'
import type { UpstreamResponse } from '../upstream-response.ts'
import type { ClientWriter } from './client-writer.ts'

export interface RelayOptions {
  /** Aborted when the client is gone. */
  readonly signal: AbortState
  /** How long the client may take nothing; 0 for no bound. */
  readonly writeMs: number
  /** Whether the answer is its head alone, as for HEAD. */
  readonly isBodyless: boolean
  /** Called once where the answer had to be broken off. The client is not to be told any more. */
  readonly onFailed: (error: SseProxyError) => void
}

/** Reads the body as fast as the client takes it, and ends the response as the body ends. */
export function relay(
  response: UpstreamResponse,
  writer: ClientWriter,
  { signal, writeMs, isBodyless, onFailed }: RelayOptions,
): void {
  const { body } = response
  writer.open(response)
  signal.onAbort(() => body.destroy())
  writer.watch(writeMs, {
    onDrain: () => body.unpause(),
    onStall: () => {
      body.destroy()
      writer.destroy()
      onFailed(new StreamError('ERR_SSE_PROXY_SLOW_CLIENT'))
    },
  })
  // A body that has come whole can leave together with its head.
  let ended = false
  body.start({
    onData: (chunk) => {
      if (!writer.write(chunk)) body.pause()
    },
    onEnd: () => {
      ended = true
      body.judge?.(true)
      writer.end()
    },
    onBroken: (cause) => {
      ended = true
      body.judge?.(isBodyless)
      // There was nothing to come.
      if (isBodyless) return writer.end()
      writer.break()
      onFailed(new StreamError('ERR_SSE_PROXY_UPSTREAM_LOST', cause))
    },
  })
  if (!ended) writer.flush()
}
