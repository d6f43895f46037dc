// What the system, or whoever threw, said of a failure, as text for logs.

import { messageOf } from './app-callback.ts'

/** Code and message and no more: what else an error carries may be a part of an answer. */
export function systemError(cause: unknown): string {
  if (!(cause instanceof Error)) return ''
  const code = codeOf(cause)
  const text = textOf(cause)
  return code === '' || text.includes(code) ? text : `${code}: ${text}`
}

/** The code of a system error, or of any other that has one. */
export function codeOf(error: unknown): string {
  try {
    return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
  } catch {
    return ''
  }
}

/** Where a name has several addresses, each failed in its own way, and the whole has no message. */
function textOf(cause: Error): string {
  const message = messageOf(cause)
  if (message !== '' || !(cause instanceof AggregateError)) return message
  const each: unknown[] = cause.errors
  return each.map((error) => (error instanceof Error ? messageOf(error) : '')).join(', ')
}
