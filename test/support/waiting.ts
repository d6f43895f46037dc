// Waits with a bound: a test that would hang fails with the name of what it waited for.

// Far beyond what anything takes on a machine that is busy with other things.
const patienceMs = 30_000

// Taken before a test puts a fake clock in their place: a bound is one of real time whatever the test does with its own.
const { setTimeout, clearTimeout } = globalThis
const { now } = Date

/** Most of what is waited for happens within so many turns of the event loop. */
const quickLooks = 20
// Looks after that are further and further apart: one each 2 ms is a twentieth of a processor, for as long as it takes.
const [leastPauseMs, mostPauseMs] = [2, 5]

/** What is waited for, in words; a function when the words depend on how far things got. */
type What = string | (() => string)

function told(what: What): string {
  return typeof what === 'string' ? what : what()
}

/** The promise's value, or a failure that names what did not come in time. */
export async function within<T>(promise: Promise<T>, what: What, ms: number = patienceMs): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms for ${told(what)}`)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Resolves as soon as the condition holds; for what has no event of its own, such as a count that falls to zero. */
export async function until(isSo: () => boolean, what: What, ms: number = patienceMs): Promise<void> {
  const deadline = now() + ms
  for (let look = 0; !isSo(); look += 1) {
    if (now() > deadline) throw new Error(`waited ${ms} ms for ${told(what)}`)
    const pauseMs = Math.min(leastPauseMs + Math.floor(look / quickLooks) - 1, mostPauseMs)
    await new Promise<unknown>((resolve) => (look < quickLooks ? setImmediate(resolve) : setTimeout(resolve, pauseMs)))
  }
}

/** A promise with its own resolve: the place where two sides of a test meet. */
export interface Gate<T = void> {
  promise: Promise<T>
  open: (value: T) => void
}

export function gate<T = void>(): Gate<T> {
  let open: (value: T) => void = () => {}
  const promise = new Promise<T>((resolve) => {
    open = resolve
  })
  return { promise, open }
}

/** First in, first out, with `next()` waiting for what has not come yet. */
export class Arrivals<T> {
  readonly all: T[] = []
  #taken = 0
  #waiting: ((value: T) => void)[] = []

  add(value: T): void {
    this.all.push(value)
    const waiter = this.#waiting.shift()
    if (waiter) {
      this.#taken += 1
      waiter(value)
    }
  }

  next(what: string, ms?: number): Promise<T> {
    const ready = this.all[this.#taken]
    if (ready !== undefined) {
      this.#taken += 1
      return Promise.resolve(ready)
    }
    const { promise, open } = gate<T>()
    this.#waiting.push(open)
    return within(promise, what, ms)
  }
}
