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
  /** The URL of the upstream whose events come, without credentials. */
  readonly upstream: string
  /** Moves with what passes. */
  readonly cursor: Progress
  /** What has been written to the client. */
  readonly bytes: number
  /** How often another connection has taken over. */
  readonly resumes: number
  /** @returns whether it was taken */
  send(event: StreamEvent): boolean
  /** Ends it cleanly, behind the event that is on its way. */
  end(reason: CloseReason): void
}

/** Reads through to its subject, so that it is never out of date. */
export class StreamHandle implements SseStream {
  readonly openedAt: number = Date.now()
  readonly #subject: HandleSubject
  // Made when the app asks for it first.
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
