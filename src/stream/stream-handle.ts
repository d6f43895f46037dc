// The face of a session that hooks, observers and the app see: nothing of the machinery, and nothing they can break.

import type { Abort } from '../abort.ts'
import type { CloseReason } from '../errors.ts'
import type { Progress } from '../events/cursor.ts'
import type { SseStream, StreamEvent } from '../events/event.ts'

/** What has a handle: a client's session, or a shared stream, which hooks see in its place. */
export interface HandleSubject {
  readonly context: {
    readonly id: string
    readonly req: SseStream['req']
    readonly controller: Pick<Abort, 'signal'>
  }
  readonly upstream: string
  readonly cursor: Progress
  readonly bytes: number
  readonly resumes: number
  send(event: StreamEvent): boolean
  end(reason: CloseReason): void
}

export class StreamHandle implements SseStream {
  readonly openedAt: number = Date.now()
  readonly #subject: HandleSubject
  #locals: Record<string, unknown> | undefined

  constructor(subject: HandleSubject) {
    this.#subject = subject
  }

  get id(): string {
    return this.#subject.context.id
  }

  get req(): SseStream['req'] {
    return this.#subject.context.req
  }

  get upstream(): string {
    return this.#subject.upstream
  }

  get lastEventId(): string {
    return this.#subject.cursor.lastEventId
  }

  get resumes(): number {
    return this.#subject.resumes
  }

  get events(): number {
    return this.#subject.cursor.events
  }

  get bytes(): number {
    return this.#subject.bytes
  }

  get locals(): Record<string, unknown> {
    this.#locals ??= {}
    return this.#locals
  }

  get signal(): AbortSignal {
    return this.#subject.context.controller.signal
  }

  send(event: StreamEvent): boolean {
    return this.#subject.send(event)
  }

  close(): void {
    this.#subject.end('closed')
  }
}
