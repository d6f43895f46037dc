// How long something is wanted: the part of AbortController and AbortSignal that is needed here, at a fraction of
// their weight. Every request has one; the real thing is made only where the app asks for it.

import createDebug from 'debug'

const debug = createDebug('sse-proxy:error')

/** Whether a request or stream is still wanted, for those who work for it. */
export interface AbortState {
  readonly aborted: boolean
  /** Why it is not wanted any more; undefined until then. */
  readonly reason: unknown
  /** Calls back once when it is aborted; as with an AbortSignal never where it has been already. */
  onAbort(listener: () => void): void
  /** Takes a listener back that is not needed any more. */
  offAbort(listener: () => void): void
}

/** The owner's side: ends the work, once and for all who listen. */
export class Abort implements AbortState {
  /** Set once, before the listeners hear of it. */
  aborted = false
  reason: unknown
  // The usual case is one listener at a time, which costs no list.
  #listener: (() => void) | undefined
  // Those that came while there was one; empty where there is none.
  #others: readonly (() => void)[] = NONE
  // The real thing, once it has been asked for.
  #controller: AbortController | undefined

  /** For those who take nothing but the real thing. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController()
      if (this.aborted) this.#controller.abort(this.reason)
    }
    return this.#controller.signal
  }

  onAbort(listener: () => void): void {
    if (this.#listener) this.#others = [...this.#others, listener]
    else this.#listener = listener
  }

  offAbort(listener: () => void): void {
    if (this.#listener !== listener) {
      this.#others = this.#others.filter((other) => other !== listener)
      return
    }
    this.#listener = this.#others[0]
    this.#others = this.#others.length > 1 ? this.#others.slice(1) : NONE
  }

  abort(reason: unknown): void {
    if (this.aborted) return
    this.aborted = true
    this.reason = reason
    const first = this.#listener
    const others = this.#others
    this.#listener = undefined
    this.#others = NONE
    if (first) call(first)
    for (const other of others) call(other)
    this.#controller?.abort(reason)
  }
}

/** Aborted with another one, or before that for a reason of its own. */
export class LinkedAbort extends Abort {
  readonly #other: AbortState

  constructor(other: AbortState) {
    super()
    this.#other = other
    if (other.aborted) this.abort(other.reason)
    else other.onAbort(this.#follow)
  }

  /** Nothing hangs on it any more. */
  unlink(): void {
    this.#other.offAbort(this.#follow)
  }

  readonly #follow = (): void => {
    this.abort(this.#other.reason)
  }
}

const NONE: readonly (() => void)[] = []

/** A listener that throws keeps neither the others from hearing nor the owner from going on. */
function call(listener: () => void): void {
  try {
    listener()
  } catch (error) {
    debug('a listener failed when its work was given up: %O', error)
  }
}

/** Calls back after a while, unless it is aborted before. */
export function after(ms: number, state: AbortState, callback: () => void): void {
  const stop = () => clearTimeout(timer)
  const timer = setTimeout(() => {
    state.offAbort(stop)
    callback()
  }, ms)
  state.onAbort(stop)
}

/**
 * Waits; rejects with the reason when it is aborted meanwhile, or has been.
 * @param ref false lets the process exit meanwhile
 */
export function sleep(ms: number, state: AbortState, ref: boolean = true): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer)
      reject(state.reason)
    }
    const timer = setTimeout(() => {
      state.offAbort(stop)
      resolve()
    }, ms)
    if (!ref) timer.unref()
    if (state.aborted) stop()
    else state.onAbort(stop)
  })
}
