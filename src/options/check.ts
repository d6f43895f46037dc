// Checks of single option values. Each returns the value in its checked type or throws a ConfigError that names the
// path, what was expected and what was given.

import { inspect } from 'node:util'
import { ConfigError } from '../errors.ts'

/** The longest delay a Node timer takes. */
export const MAX_MS = 2_147_483_647

export function unexpected(path: string, expected: string, got: unknown): never {
  throw new ConfigError(`${path}: expected ${expected}, got ${show(got)}`)
}

/** For what may be a secret. */
export function refuseUnseen(path: string, expected: string, got: unknown): never {
  throw new ConfigError(`${path}: expected ${expected}, got ${got === undefined ? got : `a ${typeof got} (not shown)`}`)
}

function show(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  const type = Array.isArray(value) ? 'array' : typeof value
  return `${inspect(value, { depth: 0, breakLength: Infinity, maxStringLength: 60 })} (${type})`
}

export function integer(path: string, value: unknown, min: number, max: number, orElse = ''): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value
  return unexpected(path, `an integer from ${min} to ${max}${orElse}`, value)
}

export function flag(path: string, value: unknown): boolean {
  return typeof value === 'boolean' ? value : unexpected(path, 'true or false', value)
}

export function oneOf<T extends string>(path: string, value: unknown, allowed: readonly T[], orElse = ''): T {
  const found = allowed.find((candidate) => candidate === value)
  return found ?? unexpected(path, `${allowed.map((name) => `'${name}'`).join(' or ')}${orElse}`, value)
}

export function text(path: string, value: unknown, pattern: RegExp, expected: string): string {
  if (typeof value === 'string' && pattern.test(value)) return value
  return unexpected(path, expected, value)
}

export function callable<T>(path: string, value: T, expected = 'a function'): T & ((...args: never[]) => unknown) {
  return isFunction(value) ? value : unexpected(path, expected, value)
}

function isFunction<T>(value: T): value is T & ((...args: never[]) => unknown) {
  return typeof value === 'function'
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Refuses keys that nobody reads, naming the nearest one that somebody does. */
export function group(path: string, value: unknown, known: readonly string[], orElse = ''): Record<string, unknown> {
  if (!isObject(value)) return unexpected(path || 'options', `an object${orElse}`, value)
  for (const key of Object.keys(value)) {
    if (value[key] === undefined) continue
    if (path !== '') refuseNull(path, value, [key])
    if (!known.includes(key))
      throw new ConfigError(`${path ? `${path}.` : ''}${key}: unknown option${hint(key, known)}`)
  }
  return value
}

/** Only undefined stands for the default: null may have been meant as "none". */
export function refuseNull(path: string, value: Record<string, unknown>, keys: readonly string[]): void {
  for (const key of keys) {
    if (value[key] === null)
      unexpected(path === '' ? key : `${path}.${key}`, 'a value, or undefined for the default', null)
  }
}

// A longer list would drown the message.
const MANY = 20

function hint(key: string, known: readonly string[]): string {
  const wanted = key.toLowerCase()
  const ranked = known.map((name) => ({ name, distance: editDistance(wanted, name.toLowerCase()) }))
  const nearest = ranked.sort((a, b) => a.distance - b.distance)[0]
  if (nearest && nearest.distance <= key.length / 3) return `, did you mean ${nearest.name}?`
  const longer = known.find((name) => name.toLowerCase().startsWith(wanted))
  if (longer) return `, did you mean ${longer}?`
  return known.length > MANY ? '' : `; known are ${known.join(', ')}`
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, change))
    }
    row = next
  }
  return row[b.length] ?? 0
}
