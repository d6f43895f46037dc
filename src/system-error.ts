// The cause of a failure as text for logs: what the operating system, Node or the app said.

import { messageOf } from './app-callback.ts'

/** The code and the message only: other properties of an error may contain parts of a response. */
export function systemError(cause: unknown): string {
  if (!(cause instanceof Error)) return ''
  const code = codeOf(cause)
  const text = textOf(cause)
  return code === '' || text.includes(code) ? text : `${code}: ${text}`
}

/** An error's code; empty where it has none, or reading it throws. */
export function codeOf(error: unknown): string {
  try {
    return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
  } catch {
    return ''
  }
}

/** The message. An AggregateError, for a name with several addresses, has one for each attempt and none of its own. */
function textOf(cause: Error): string {
  const message = messageOf(cause)
  if (message !== '' || !(cause instanceof AggregateError)) return message
  const each: unknown[] = cause.errors
  return each.map((error) => (error instanceof Error ? messageOf(error) : '')).join(', ')
}
