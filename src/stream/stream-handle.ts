// The face of a session that hooks, observers and the app see: nothing of the machinery, and nothing they can break.

import type { SseStream, StreamEvent } from '../options.ts'
import type { Session } from './session.ts'

export class StreamHandle implements SseStream {
  readonly openedAt: number = Date.now()
  readonly #session: Session
  #locals: Record<string, unknown> | undefined

  constructor(session: Session) {
    this.#session = session
  }

  get id(): string {
    return this.#session.context.id
  }

  get req(): SseStream['req'] {
    return this.#session.context.req
  }

  get upstream(): string {
    return this.#session.upstream
  }

  get lastEventId(): string {
    return this.#session.cursor.lastEventId
  }

  get resumes(): number {
    return this.#session.resumes
  }

  get events(): number {
    return this.#session.cursor.events
  }

  get bytes(): number {
    return this.#session.bytes
  }

  get locals(): Record<string, unknown> {
    this.#locals ??= {}
    return this.#locals
  }

  get signal(): AbortSignal {
    return this.#session.context.controller.signal
  }

  send(event: StreamEvent): boolean {
    return this.#session.send(event)
  }

  close(): void {
    this.#session.end('closed')
  }
}
