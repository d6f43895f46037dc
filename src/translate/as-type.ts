// The head of an answer whose body is translated: it has another type, and what told of the bytes that came is gone.

import type { UpstreamResponse } from '../upstream-response.ts'

// They describe the bytes that came; what else is about them no event stream keeps.
const REPLACED = ['content-type', 'content-encoding', 'content-length']

export function asType<Head extends Pick<UpstreamResponse, 'headers'>>(head: Head, contentType: string): Head {
  const kept = head.headers.filter(([name]) => !REPLACED.includes(name.toLowerCase()))
  return { ...head, headers: [...kept, ['Content-Type', contentType]] }
}
