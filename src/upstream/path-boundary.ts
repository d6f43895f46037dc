// What a client asks for is joined to the target's path, which is a boundary: no reading of the joined path that a server
// may choose leads out of it. Where the app's own rules look at the path, they see what the upstream will.

import type { HpmOptions } from '../hpm.ts'

type Rules = Pick<HpmOptions, 'ignorePath' | 'pathFilter' | 'pathRewrite' | 'router'>

export class PathBoundary {
  // The client's path is not sent.
  readonly #isIgnored: boolean
  readonly #isRewritten: boolean
  // A rule of the app's decides by the path, so it has to mean the same to the rule and to the upstream.
  readonly #isRuled: boolean

  constructor({ ignorePath, pathFilter, pathRewrite, router }: Rules) {
    this.#isIgnored = ignorePath === true
    this.#isRewritten = pathRewrite !== undefined
    this.#isRuled = this.#isRewritten || pathFilter !== undefined || router !== undefined
  }

  /** Whether a request may go on with this URL, as the client sent it and the app mounted it. */
  admits(url: string): boolean {
    if (this.#isIgnored) return true
    const path = pathOf(originForm(url))
    return this.#isRuled ? isPlain(path) : staysInside(path)
  }

  /** The same for what `pathRewrite` made of it: `^/api` cut off `/api../admin` leaves `../admin`. */
  admitsRewritten(url: string): boolean {
    return this.#isIgnored || !this.#isRewritten || !hasDotDot(pathOf(url))
  }
}

/** RFC 9112, section 3.2.2: a server must take a whole URL as the target too. */
export function originForm(url: string): string {
  if (url[0] === '/') return url
  const path = url.replace(/^[a-z][a-z\d+.-]*:\/\/[^/?#]*/i, '')
  return path[0] === '/' ? path : `/${path === '*' ? '' : path}`
}

function pathOf(url: string): string {
  const query = url.indexOf('?')
  return query < 0 ? url : url.slice(0, query)
}

/** Says the same to a URL parser, which takes what follows two slashes for a host, as to all who do not parse. */
function isPlain(path: string): boolean {
  return !hasDotDot(path) && !/^\/[/\\]/.test(path)
}

/**
 * What servers take for a slash: URL parsers the backslash too, those that decode first the encoded slash, those on
 * Windows the encoded backslash.
 */
const READINGS = [/\//, /[/\\]/, /\/|%2f/i, /[/\\]|%2f/i, /[/\\]|%5c/i, /[/\\]|%2f|%5c/i]
const EVERY_SLASH = /[/\\]|%2f|%5c/i

function hasDotDot(path: string): boolean {
  return MAY_CLIMB.test(path) && path.split(EVERY_SLASH).some(isDotDot)
}

function staysInside(path: string): boolean {
  return !MAY_CLIMB.test(path) || READINGS.every((slash) => neverClimbsOut(path.split(slash)))
}

// Asked first, since hardly any path has it.
const MAY_CLIMB = /(?:\.|%2e){2}/i

function neverClimbsOut(segments: readonly string[]): boolean {
  let depth = 0
  for (const segment of segments) {
    if (isDotDot(segment)) depth--
    else if (!isNowhere(segment)) depth++
    if (depth < 0) return false
  }
  return true
}

/** With what servlet containers take for a parameter of the segment, and URL parsers for a fragment, and leave out. */
function isDotDot(segment: string): boolean {
  return /^(?:\.|%2e){2}(?:[;#]|%3b|$)/i.test(segment)
}

/** Nothing, which some servers merge with its neighbour, or the folder itself. */
function isNowhere(segment: string): boolean {
  return /^(?:\.|%2e)?(?:;|%3b|$)/i.test(segment)
}
