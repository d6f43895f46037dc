// The options about single request headers: a target's own, and those of clients that do not reach any upstream. Values
// may be keys, and are not told when they are refused.

import { validateHeaderValue } from 'node:http'
import { ConfigError } from '../errors.ts'
import { isObject, refuseUnseen, TOKEN, text, unexpected } from './check.ts'

// Without these, or with others, the bytes behind the head would be read as something else.
const FRAMING = ['connection', 'content-length', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade']

/** The headers of a target's own, by name in lower case. */
export function checkHeaders(path: string, value: unknown): Readonly<Record<string, string>> {
  if (!isPlain(value)) return refuseUnseen(path, 'a plain object of texts by the names of headers', value)
  const headers: Record<string, string> = {}
  for (const [given, text] of Object.entries(value)) {
    // A header's whole line may have been given for its name.
    if (!TOKEN.test(given)) return refuseUnseen(path, 'the names of headers as keys', given)
    const name = checkName(path, given)
    if (name in headers) throw new ConfigError(`${path}: ${name} is there twice, in different case`)
    if (typeof text !== 'string' || !isHeaderValue(text)) {
      return refuseUnseen(`${path}.${given}`, 'a text that a header can carry', text)
    }
    headers[name] = text
  }
  return Object.freeze(headers)
}

/** See the option `stripHeaders`. */
export function resolveStripHeaders(value: unknown): readonly string[] {
  if (!Array.isArray(value)) return unexpected('stripHeaders', "an array of names such as ['cookie']", value)
  return Object.freeze(
    value.map((name: unknown, i) => {
      const path = `stripHeaders[${i}]`
      const known = checkName(path, text(path, name, TOKEN, 'the name of a header'))
      if (known === 'host')
        throw new ConfigError(`${path}: host cannot be left out; use changeOrigin or headers instead`)
      return known
    }),
  )
}

/** Headers and Map have their entries elsewhere, and would pass for an object without any. */
function isPlain(value: unknown): value is Record<string, unknown> {
  return isObject(value) && [Object.prototype, null].includes(Object.getPrototypeOf(value))
}

function checkName(path: string, given: string): string {
  const name = text(path, given, TOKEN, 'the name of a header').toLowerCase()
  if (FRAMING.includes(name))
    throw new ConfigError(`${path}: ${name} belongs to the connection, and is the proxy's own`)
  return name
}

function isHeaderValue(value: string): boolean {
  try {
    validateHeaderValue('x', value)
    return true
  } catch {
    return false
  }
}
