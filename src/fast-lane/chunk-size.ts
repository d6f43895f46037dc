// The size that begins a chunk of an HTTP/1.1 body, for all who read chunks here. RFC 9112, section 7.1: in hexadecimal.

// RFC 9112 sets no bound. A chunk with more digits is larger than any that may be held, and for a real parser to judge.
export const MAX_DIGITS = 7

/** The value of a character, -1 where it is no digit. */
export function hexDigit(code: number): number {
  if (code >= 48 && code <= 57) return code - 48
  const lower = code | 32
  return lower >= 97 && lower <= 102 ? lower - 87 : -1
}
