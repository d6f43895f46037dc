// Calls to the app's callbacks, which may throw anything, return anything, and return promises that reject or never settle.
// None of that ends the process, and no failure is lost: it fails what awaits the callback, or is reported where nothing
// does.

import { inspect, types } from 'node:util'
import createDebug from 'debug'
import { ConfigError } from './errors.ts'

const debug = createDebug('sse-proxy:error')

/** The app's logger: http-proxy-middleware's option `logger`. */
export type Logger = Pick<Console, 'info' | 'warn' | 'error'>

/** Reports the failure of a callback whose result is not awaited; `path` is its path in the options. */
export type ReportFailure = (path: string, thrown: unknown) => void

/**
 * Calls a callback whose result is not used. What it throws or rejects with is reported.
 * @param onThrown takes a synchronous throw in place of `report`
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
 * Wraps a callback whose result is needed synchronously. An async function is refused here; a promise that is returned all the
 * same is an error of that call, since any promise is truthy and has a text. Whatever the wrapper throws is an `Error`.
 * @throws ConfigError
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

/** Wraps a callback that may be async. Whatever the wrapper rejects with is an `Error`. */
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

/** Whether a value has to be awaited. It is true where reading `then` throws, so that awaiting it fails. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return false
  try {
    return 'then' in value && typeof value.then === 'function'
  } catch {
    return true
  }
}

/** A native promise of a thenable: it settles once, and later, whatever the thenable does. */
export function promised<T>(thenable: PromiseLike<T>): Promise<T> {
  return new Promise((resolve) => resolve(thenable))
}

/** What was thrown, as an `Error`: Express takes `next(undefined)` and `next('route')` for no error at all. */
export function asError(path: string, thrown: unknown): Error {
  return isError(thrown) ? thrown : new Error(`${path} threw ${textOf(thrown)}`, { cause: thrown })
}

/** An error's message, also where its getter throws. */
export function messageOf(error: Error): string {
  try {
    return String(error.message)
  } catch {
    return 'an error that cannot be read'
  }
}

/** A report that writes to the debug log and, under the proxy's name, to the app's logger. */
export function failureReport(logger: Logger | undefined, name = ''): ReportFailure {
  return (path, thrown) => {
    const message = messageOf(asError(path, thrown))
    debug('%s failed: %s', path, message)
    logger?.error(`[${name}] ${path} failed: ${message}`)
  }
}

/** The app's logger, whose own failures go to the debug log alone and never to its callers. */
export function guardedLogger(logger: Logger): Logger {
  const report = failureReport(undefined)
  const guarded = (level: keyof Logger) => ({
    value: (...args: unknown[]) => tell(`logger.${level}`, () => logger[level](...args), report),
  })
  // Its other methods stay available to plugins, through the prototype.
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
