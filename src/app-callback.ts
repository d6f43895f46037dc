// The one place that knows what a callback of the app's may do: throw anything, return anything, promise something and
// never keep it. Nothing of that ends the process, and nothing of it is lost: it fails what waits for the callback, or
// it is reported where nobody waits.

import { inspect, types } from 'node:util'
import createDebug from 'debug'
import { ConfigError } from './errors.ts'

const debug = createDebug('sse-proxy:error')

/** Where the app wants to read of failures: http-proxy-middleware's `logger`. */
export type Logger = Pick<Console, 'info' | 'warn' | 'error'>

/** Takes the failure of a callback that nobody waits for, named by its path in the options. */
export type ReportFailure = (path: string, thrown: unknown) => void

/**
 * Tells a callback something. What it returns is not used; what it throws or rejects with is reported.
 * @param onThrown in place of the report, where a throw stops something
 */
export function tell(path: string, call: () => unknown, report: ReportFailure, onThrown: ReportFailure = report): void {
  try {
    const result = call()
    if (isThenable(result)) promised(result).catch((error) => report(path, error))
  } catch (error) {
    onThrown(path, error)
  }
}

/**
 * A callback whose result is needed at once. An async function is refused here; a promise that comes all the same is an
 * error at the call, since its text or its truth would pass for an answer. Whatever it throws is an `Error`.
 */
export function asked<A extends unknown[], R>(path: string, callback: (...args: A) => R): (...args: A) => R {
  if (types.isAsyncFunction(callback) || types.isGeneratorFunction(callback)) {
    throw new ConfigError(`${path}: expected a function that returns its result at once, got an async function`)
  }
  return (...args) => {
    const result = failingAs(path, () => callback(...args))
    if (!isThenable(result)) return result
    promised(result).catch(() => {})
    throw new TypeError(`${path}: expected the function to return its result at once, got a promise`)
  }
}

/** A callback that may take its time. Whatever it throws or rejects with is an `Error`. */
export function awaited<A extends unknown[], R>(
  path: string,
  callback: (...args: A) => R | Promise<R>,
): (...args: A) => Promise<R> {
  return async (...args) => {
    try {
      return await callback(...args)
    } catch (error) {
      throw asError(path, error)
    }
  }
}

/** Whether it has to be waited for. A `then` that cannot be read fails that wait. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return false
  try {
    return 'then' in value && typeof value.then === 'function'
  } catch {
    return true
  }
}

/** A promise of our own, which settles once and cannot throw, whatever the thenable does. */
export function promised<T>(thenable: PromiseLike<T>): Promise<T> {
  return new Promise((resolve) => resolve(thenable))
}

/** An `Error`, whatever was thrown: `next(undefined)` and `next('route')` would pass for something else. */
export function asError(path: string, thrown: unknown): Error {
  return isError(thrown) ? thrown : new Error(`${path} threw ${textOf(thrown)}`, { cause: thrown })
}

/** Its message, unless reading that throws. */
export function messageOf(error: Error): string {
  try {
    return String(error.message)
  } catch {
    return 'an error that cannot be read'
  }
}

/** Writes failures to the debug log and to the app's logger. */
export function failureReport(logger: Logger | undefined): ReportFailure {
  return (path, thrown) => {
    const message = messageOf(asError(path, thrown))
    debug('%s failed: %s', path, message)
    logger?.error(`[sse-proxy] ${path} failed: ${message}`)
  }
}

/** The app's logger, whose failures reach nobody who logs. */
export function guardedLogger(logger: Logger): Logger {
  const report = failureReport(undefined)
  const guarded = (level: keyof Logger) => ({
    value: (...args: unknown[]) => tell(`logger.${level}`, () => logger[level](...args), report),
  })
  // A plugin may know other methods of it.
  return Object.create(logger, { info: guarded('info'), warn: guarded('warn'), error: guarded('error') })
}

function failingAs<R>(path: string, call: () => R): R {
  try {
    return call()
  } catch (error) {
    throw asError(path, error)
  }
}

function isError(thrown: unknown): thrown is Error {
  try {
    return thrown instanceof Error || types.isNativeError(thrown)
  } catch {
    return false
  }
}

function textOf(thrown: unknown): string {
  try {
    return inspect(thrown, { depth: 0, breakLength: Number.POSITIVE_INFINITY, maxStringLength: 60 })
  } catch {
    return 'what cannot be shown'
  }
}
