// Checks of single option values. Each returns the value, or throws a ConfigError that names its path, what was expected and
// what was given.

import { METHODS } from 'node:http'
import { inspect } from 'node:util'
import { ConfigError } from '../errors.ts'

/** The longest delay a Node timer takes. */
export const MAX_MS = 2_147_483_647

/** RFC 9110, section 5.6.2: names of headers, cookies and methods. */
export const TOKEN: RegExp = /^[\w!#$%&'*+.^`|~-]+$/

/** @throws ConfigError, always */
export function unexpected(path: string, expected: string, got: unknown): never {
  throw new ConfigError(`${path}: expected ${expected}, got ${show(got)}`)
}

/**
 * The same for what a callback has returned.
 * @throws TypeError, always
 */
export function unexpectedResult(path: string, expected: string, got: unknown): never {
  throw new TypeError(`${path}: expected the function to return ${expected}, got ${show(got)}`)
}

/** The same for what may be a secret: the value is not shown. */
export function refuseUnseen(path: string, expected: string, got: unknown): never {
  throw new ConfigError(`${path}: expected ${expected}, got ${got === undefined ? got : `a ${typeof got} (not shown)`}`)
}

function show(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  const type = Array.isArray(value) ? 'array' : typeof value
  return `${inspect(value, { depth: 0, breakLength: Infinity, maxStringLength: 60 })} (${type})`
}

/** @param orElse what may be given in its place, as the message says it */
export function integer(path: string, value: unknown, min: number, max: number, orElse = ''): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value
  return unexpected(path, `an integer from ${min} to ${max}${orElse}`, value)
}

/** Several of a group, with their defaults. */
export function integers<K extends string>(
  path: string,
  given: Readonly<Record<string, unknown>>,
  defaults: Readonly<Record<K, number>>,
  min: number,
  max: number,
): Readonly<Record<K, number>> {
  const resolved: Record<K, number> = { ...defaults }
  for (const key in defaults) resolved[key] = integer(`${path}.${key}`, given[key] ?? defaults[key], min, max)
  return resolved
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

/** Names of HTTP methods, as a list in upper case. */
export function methodNames(path: string, value: readonly unknown[]): readonly string[] {
  if (!isList(value)) return unexpected(path, 'an array of HTTP methods', value)
  return Object.freeze(value.map((method, i) => methodName(`${path}[${i}]`, method)))
}

function methodName(path: string, value: unknown): string {
  const method = typeof value === 'string' ? value.toUpperCase() : ''
  return METHODS.includes(method) ? method : unexpected(path, "the name of an HTTP method such as 'POST'", value)
}

/** Any function. What it takes and returns cannot be checked here. */
export function callable<T>(path: string, value: T, expected = 'a function'): T {
  return typeof value === 'function' ? value : unexpected(path, expected, value)
}

/** One function or several, as a list. */
export function callables<T>(path: string, value: T | readonly T[] | undefined): readonly T[] {
  if (isList(value)) return Object.freeze(value.map((each, i) => callable(`${path}[${i}]`, each)))
  return Object.freeze(value === undefined ? [] : [callable(path, value, 'a function or an array of functions')])
}

/** A function, or undefined where none is given. */
export function callableOrNone<T>(path: string, value: T): T {
  if (value !== undefined) callable(path, value)
  return value
}

/** A number of ms, or the range that it is drawn from. */
export function range(path: string, value: unknown): readonly [min: number, max: number] {
  if (typeof value === 'number') {
    const only = integer(path, value, 0, MAX_MS, ' or [min, max]')
    return Object.freeze([only, only] as const)
  }
  if (!Array.isArray(value) || value.length !== 2) return unexpected(path, 'a number of ms or [min, max]', value)
  const min = integer(`${path}[0]`, value[0], 0, MAX_MS)
  const max = integer(`${path}[1]`, value[1], min, MAX_MS)
  return Object.freeze([min, max] as const)
}

/** Whether it has members to be read: neither null nor a list. */
export function isObject<T>(value: T): value is T & Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** `Array.isArray`, for lists that are readonly. */
export function isList<T>(value: T | readonly T[]): value is readonly T[] {
  return Array.isArray(value)
}

/** An object whose keys are all known; an unknown one is refused with the nearest known name. */
export function group<T>(path: string, value: T, known: readonly string[], orElse = ''): T & Record<string, unknown> {
  if (!isObject(value)) return unexpected(path || 'options', `an object${orElse}`, value)
  for (const key of Object.keys(value)) {
    if (value[key] === undefined) continue
    if (path !== '') refuseNull(path, value, [key])
    if (!known.includes(key))
      throw new ConfigError(`${path ? `${path}.` : ''}${key}: unknown option${hint(key, known)}`)
  }
  return value
}

/** Refuses null, which may have been meant as "none": only undefined stands for the default. */
export function refuseNull(path: string, value: Record<string, unknown>, keys: readonly string[]): void {
  for (const key of keys) {
    if (value[key] === null)
      unexpected(path === '' ? key : `${path}.${key}`, 'a value, or undefined for the default', null)
  }
}

// A longer list of known names would bury the message.
const MANY = 20

/** The nearest known name, else a longer one that begins like it, else all of them or where they are. */
function hint(key: string, known: readonly string[]): string {
  const wanted = key.toLowerCase()
  const ranked = known.map((name) => ({ name, distance: editDistance(wanted, name.toLowerCase()) }))
  const nearest = ranked.sort((a, b) => a.distance - b.distance)[0]
  if (nearest && nearest.distance <= key.length / 3) return `, did you mean ${nearest.name}?`
  const longer = known.find((name) => name.toLowerCase().startsWith(wanted))
  if (longer) return `, did you mean ${longer}?`
  return known.length > MANY
    ? '; demo/guides/options.md in the package has them all'
    : `; known are ${known.join(', ')}`
}

/** Levenshtein distance. */
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
