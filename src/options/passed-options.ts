// The options that are passed on to http-proxy-middleware with its own meaning. They are checked here, because it looks at
// most of them with the first request or never, and a mistake would fail every request.

import {
  callable,
  flag,
  group,
  integer,
  isObject,
  MAX_MS,
  oneOf,
  refuseUnseen,
  TOKEN,
  text,
  unexpected,
} from './check.ts'

/** Throws a ConfigError that names the path, where the value is wrong; what it returns is not used. */
type Check = (path: string, value: unknown) => unknown

/**
 * Each option that is passed on, and its check. What may be a secret is not shown when it is refused. An option that is not
 * here is unknown, so a new one of http-proxy-middleware's is refused until it has a line.
 */
const CHECKS: Readonly<Record<string, Check>> = {
  // One of Node's, or what stands for one: libraries for proxies bring their own.
  agent: (path, value) => {
    if (value === false || (isObject(value) && typeof value.addRequest === 'function')) return
    unexpected(path, 'an http.Agent or https.Agent, or false for a connection for each request', value)
  },
  // Without a colon it is no user and password (RFC 7617), and Node would send it all the same.
  auth: (path, value) => {
    if (typeof value === 'string' && value.includes(':')) return
    refuseUnseen(path, "a text 'user:password'", value)
  },
  autoRewrite: flag,
  ca: certificate,
  changeOrigin: flag,
  cookieDomainRewrite: rewriting,
  cookiePathRewrite: rewriting,
  ejectPlugins: flag,
  // A number is how many redirects are followed, one after the other.
  followRedirects: (path, value) => {
    if (typeof value === 'boolean') return
    integer(path, value, 0, 100, ', true or false')
  },
  forward: address,
  // Node would throw for a wrong one, with the first request that carries it.
  headers: (path, value) => {
    if (!isObject(value)) refuseUnseen(path, 'an object of header names and their values', value)
    for (const [name, content] of Object.entries(value)) header(path, name, content)
  },
  // It takes the place of host and port in the Location of a redirect.
  hostRewrite: (path, value) => text(path, value, /./, "a host such as 'app.example:8080'"),
  ignorePath: flag,
  // Each connection to an upstream is bound to it, and fails where the machine has no such address.
  localAddress: (path, value) => text(path, value, /./, 'an address of this machine'),
  // http-proxy-middleware and this package call these three and no others.
  logger: (path, value) => functions(path, value, ['info', 'warn', 'error']),
  // It is written into the request line as it is.
  method: (path, value) => text(path, value, TOKEN, 'the name of a method'),
  // An event that httpxy does not have would never call its handler.
  // A handler that is null counts as not given, as an option does.
  on: (path, value) => {
    if (!isObject(value)) unexpected(path, 'an object of event names and their handlers', value)
    const given = Object.fromEntries(Object.entries(value).filter(([, handler]) => handler !== null))
    for (const [name, handler] of Object.entries(group(path, given, EVENTS))) {
      if (handler !== undefined) callable(`${path}.${name}`, handler)
    }
  },
  // What a function returns is looked at with each request.
  pathFilter: (path, value) => {
    if (typeof value === 'string' || typeof value === 'function') return
    if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return
    unexpected(path, 'a path, a list of paths, or a function', value)
  },
  // Patterns are compiled when the proxy is created, by http-proxy-middleware.
  pathRewrite: (path, value) => {
    if (typeof value === 'function') return
    if (!isObject(value)) unexpected(path, 'an object of patterns and what takes their place, or a function', value)
    for (const [pattern, replacement] of Object.entries(value)) {
      text(`${path}[${JSON.stringify(pattern)}]`, replacement, /^/, 'a text')
      regularExpression(path, pattern)
    }
  },
  // They are called when the proxy is created.
  plugins: (path, value) => {
    if (!Array.isArray(value)) unexpected(path, 'an array of functions', value)
    for (const [i, plugin] of value.entries()) callable<unknown>(`${path}[${i}]`, plugin)
  },
  prependPath: flag,
  preserveHeaderKeyCase: flag,
  protocolRewrite: (path, value) => oneOf(path, value, ['http', 'https', 'http:', 'https:']),
  // What a function returns is checked with each request.
  router: (path, value) => {
    if (typeof value === 'function') return
    if (!isObject(value)) unexpected(path, 'an object of hosts or paths and their upstreams, or a function', value)
    for (const [key, upstream] of Object.entries(value)) address(`${path}[${JSON.stringify(key)}]`, upstream)
  },
  secure: flag,
  ssl: (path, value) => {
    if (!isObject(value)) unexpected(path, 'an object of TLS options', value)
  },
  toProxy: flag,
  // For WebSockets alone; what bounds requests is `timeouts`.
  upgradeTimeout: (path, value) => integer(path, value, 0, MAX_MS),
  ws: flag,
  xfwd: flag,
}

// The events of httpxy that the option `on` takes.
const EVENTS = [
  'error',
  'start',
  'proxyReq',
  'proxyRes',
  'end',
  'econnreset',
  'proxyReqWs',
  'open',
  'close',
  'proxySocket',
]

/** Their names, for the check of unknown options. */
export const PASSED_OPTIONS: readonly string[] = Object.keys(CHECKS)

/** The given ones, checked. As in http-proxy-middleware, null counts as not given. */
export function resolvePassed(given: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const passed: Record<string, unknown> = {}
  for (const [name, check] of Object.entries(CHECKS)) {
    const value = given[name]
    if (value === undefined || value === null) continue
    check(name, value)
    passed[name] = value
  }
  return Object.freeze(passed)
}

/** A header for requests to upstreams. Its value may be a secret, so that no message shows it. */
function header(path: string, name: string, content: unknown): void {
  if (!TOKEN.test(name)) unexpected(path, 'names without spaces and colons', name)
  const values: unknown[] = Array.isArray(content) ? content : [content]
  const wrong = values.findIndex((value) => !isFieldValue(value))
  if (wrong >= 0) refuseUnseen(`${path}[${JSON.stringify(name)}]`, 'a text without line breaks', values[wrong])
}

/** RFC 9110, section 5.5, as Node checks it. */
function isFieldValue(value: unknown): boolean {
  if (typeof value === 'number' || typeof value === 'boolean') return true
  return typeof value === 'string' && /^[\t\x20-\x7e\x80-\xff]*$/.test(value)
}

/** Of the domain and the path of cookies: one value for all, one for each old value, or off. */
function rewriting(path: string, value: unknown): void {
  if (value === false || typeof value === 'string') return
  if (!isObject(value)) unexpected(path, 'a text, an object of texts, or false', value)
  for (const [from, to] of Object.entries(value)) text(`${path}[${JSON.stringify(from)}]`, to, /^/, 'a text')
}

/** For TLS to upstreams. PEM or DER, one or several: Node fails each connection over TLS where it is something else. */
function certificate(path: string, value: unknown): void {
  const texts: unknown[] = Array.isArray(value) ? value : [value]
  if (!texts.every((item) => typeof item === 'string' || item instanceof Uint8Array)) {
    unexpected(path, 'certificates as texts or buffers', value)
  }
}

/** An upstream's address; WebSocket schemes are allowed. */
function address(path: string, value: unknown): void {
  if (isObject(value) && !(value instanceof URL)) return
  const url = typeof value === 'string' && URL.canParse(value) ? new URL(value) : value
  if (url instanceof URL && /^(https?|wss?):$/.test(url.protocol)) return
  unexpected(path, "a URL such as 'http://localhost:8080'", value instanceof URL ? value.protocol : value)
}

/** An object of any class, as long as it has these methods. */
function functions(path: string, value: unknown, names: readonly string[]): void {
  if ((isObject(value) || typeof value === 'function') && names.every((name) => isFunctionOf(value, name))) return
  unexpected(path, `an object with the functions ${names.join(', ')}, such as console`, value)
}

/** Whether it has a method of this name, its own or its class's. */
function isFunctionOf(value: object, name: string): boolean {
  return typeof Reflect.get(value, name) === 'function'
}

/** http-proxy-middleware makes one of the pattern, and the syntax error would not name the option. */
function regularExpression(path: string, pattern: string): void {
  try {
    new RegExp(pattern)
  } catch {
    unexpected(path, 'patterns that are regular expressions', pattern)
  }
}
