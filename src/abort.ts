// How long something is wanted: the part of AbortController and AbortSignal that is needed here, at a fraction of
// their weight. Every request has one; the real thing is made only where the app asks for it.

/** What works for a request or stream looks here whether it is still wanted. An AbortSignal fits. */
export interface AbortState {
  readonly aborted: boolean
  /** Why it is not wanted any more. */
  readonly reason: unknown
  /** One place, for whoever works for it at the time. */
  onabort: ((event: never) => void) | null
}

export class Abort implements AbortState {
  aborted = false
  reason: unknown
  onabort: (() => void) | null = null
  #controller: AbortController | undefined

  /** For those who take nothing but the real thing. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController()
      if (this.aborted) this.#controller.abort(this.reason)
    }
    return this.#controller.signal
  }

  abort(reason: unknown): void {
    if (this.aborted) return
    this.aborted = true
    this.reason = reason
    this.onabort?.()
    this.#controller?.abort(reason)
  }
}

/** Rejects with the reason when the wait is not wanted any more. */
export function sleep(ms: number, wanted: AbortState): Promise<void> {
  return new Promise((resolve, reject) => {
    if (wanted.aborted) {
      reject(wanted.reason)
      return
    }
    const timer = setTimeout(() => {
      wanted.onabort = null
      resolve()
    }, ms)
    wanted.onabort = () => {
      clearTimeout(timer)
      reject(wanted.reason)
    }
  })
}
