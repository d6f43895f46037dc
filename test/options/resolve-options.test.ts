import assert from 'node:assert/strict'
import { Agent, type IncomingMessage } from 'node:http'
import { describe, test } from 'node:test'
import { inspect } from 'node:util'
import type { TransformHook } from '../../src/events/event.ts'
import type { HpmOptions } from '../../src/hpm.ts'
import { OWN_OPTIONS } from '../../src/options/option-names.ts'
import type { SseProxyOptions } from '../../src/options/options.ts'
import { PASSED_OPTIONS } from '../../src/options/passed-options.ts'
import { type ResolvedOptions, resolveOptions } from '../../src/options/resolve-options.ts'

const target = 'http://localhost:8080/events'
const other = 'http://localhost:8081/events'
const hook: TransformHook = () => undefined
const SECRET = '0123456789abcdef'

function resolve(options: SseProxyOptions = {}): ResolvedOptions {
  return resolveOptions({ target, ...options })
}

/** What is compared as it stands; the rest is made of functions. */
function values({ hpm, upstreams, limits, ...rest }: ResolvedOptions): unknown {
  const { clientKey: _, ...numbers } = limits
  return { ...rest, limits: numbers, hpm: { ...hpm }, retry: upstreams.retry, probe: upstreams.probe }
}

const MS = 'an integer from 0 to 2147483647'
const AT_ONCE = 'expected a function that returns its result at once, got an async function'
const FROM_1 = 'an integer from 1 to 2147483647'
const BYTES = 'an integer from 1 to 9007199254740991'
const URL_EXPECTED = "an http or https URL such as 'http://localhost:8080/events'"
const STICKY = "true, 'ip', { header }, { cookie }, { query }, { key } or { issueCookie, secret }"
const HOOKS = 'a function or an array of functions'
const VIA = 'a pseudonym without spaces or commas, or false'
const LABEL = 'a label of 1 to 100 printable characters'
const BALANCES = "'least-streams' or 'round-robin' or 'random' or 'failover' or a function"

const AGENT = 'an http.Agent or https.Agent, or false for a connection for each request'
const REWRITING = 'a text, an object of texts, or false'
const REWRITES = 'an object of patterns and what takes their place, or a function'
const ROUTES = 'an object of hosts or paths and their upstreams, or a function'
const ADDRESS = "a URL such as 'http://localhost:8080'"
const LOGGER = 'an object with the functions info, warn, error, such as console'
const HTTP2_MODES = "'auto' or 'prior-knowledge'"
const FLAGS = [
  'autoRewrite',
  'changeOrigin',
  'ejectPlugins',
  'ignorePath',
  'prependPath',
  'preserveHeaderKeyCase',
  'secure',
  'toProxy',
  'ws',
  'xfwd',
]

/** Options that are wrong, and all that is said about them. */
const REFUSED: readonly (readonly [options: unknown, message: string])[] = [
  [undefined, 'options: expected an object, got undefined'],
  [null, 'options: expected an object, got null'],
  [[], 'options: expected an object, got [] (array)'],
  ['/events', 'options: expected an object; mount it with app.use("/events", sseProxy({ ... }))'],

  [{}, "target: expected a URL such as 'http://localhost:8080/events' (or a router), got undefined"],
  [{ target: null }, `target: expected ${URL_EXPECTED} or an object with host and port or socketPath, got null`],
  [{ target: '' }, `target: expected ${URL_EXPECTED}, got '' (string)`],
  [{ target: '/events' }, `target: expected ${URL_EXPECTED}, got '/events' (string)`],
  [{ target: 'ftp://a/' }, `target: expected ${URL_EXPECTED}, got 'ftp://a/' (string)`],
  [{ target: 'http://' }, `target: expected ${URL_EXPECTED}, got 'http://' (string)`],
  [
    { target: 'localhost:8080' },
    "target: expected a URL with its scheme, 'http://localhost:8080', got 'localhost:8080' (string)",
  ],
  [
    { target: '127.0.0.1/x' },
    "target: expected a URL with its scheme, 'http://127.0.0.1/x', got '127.0.0.1/x' (string)",
  ],
  [{ target: {} }, `target: expected ${URL_EXPECTED} or an object with host and port or socketPath, got {} (object)`],
  [{ target: 80 }, `target: expected ${URL_EXPECTED} or an object with host and port or socketPath, got 80 (number)`],
  [{ target: [] }, 'target: expected at least one upstream, got [] (array)'],
  [{ target: [target, 'x y'] }, `target[1]: expected ${URL_EXPECTED}, got 'x y' (string)`],
  [{ target: [null] }, `target[0]: expected ${URL_EXPECTED} or an object with host and port or socketPath, got null`],
  [{ target: [{ url: 'a:1' }] }, "target[0].url: expected a URL with its scheme, 'http://a:1', got 'a:1' (string)"],
  [{ target: [{ url: target, weight: 0 }] }, 'target[0].weight: expected a number above 0, got 0 (number)'],
  [{ target: { url: target, weight: '2' } }, "target.weight: expected a number above 0, got '2' (string)"],
  [{ target: [{ url: target, wieght: 1 }] }, 'target[0].wieght: unknown option, did you mean weight?'],
  [
    { target: [target, other, `${target}?x`] },
    `target[2]: expected an upstream that is not in the list yet, got '${target}' (string)`,
  ],
  [
    { target: [target, other], router: () => target },
    'target: several targets cannot be used with router, which chooses',
  ],

  [
    { target: 'ws://a/chat' },
    `target: expected ${URL_EXPECTED}: http: serves WebSockets too, got 'ws://a/chat' (string)`,
  ],
  [
    { target: [{ url: 'wss://user:hush@a' }] },
    `target[0].url: expected ${URL_EXPECTED}: https: serves WebSockets too, got 'wss://***@a' (string)`,
  ],

  [{ target, agent: {} }, `agent: expected ${AGENT}, got {} (object)`],
  [{ target, agent: true }, `agent: expected ${AGENT}, got true (boolean)`],
  [{ target, auth: 'hush' }, "auth: expected a text 'user:password', got a string (not shown)"],
  [{ target, changeOrigin: 'yes' }, "changeOrigin: expected true or false, got 'yes' (string)"],
  [{ target, cookieDomainRewrite: true }, `cookieDomainRewrite: expected ${REWRITING}, got true (boolean)`],
  [{ target, cookiePathRewrite: { a: 1 } }, 'cookiePathRewrite["a"]: expected a text, got 1 (number)'],
  [
    { target, followRedirects: -1 },
    'followRedirects: expected an integer from 0 to 100, true or false, got -1 (number)',
  ],
  [{ target, forward: 'a' }, `forward: expected ${ADDRESS}, got 'a' (string)`],
  [{ target, headers: 'a' }, 'headers: expected an object of header names and their values, got a string (not shown)'],
  [{ target, headers: { 'a b': 'c' } }, "headers: expected names without spaces and colons, got 'a b' (string)"],
  [
    { target, headers: { authorization: undefined } },
    'headers["authorization"]: expected a text without line breaks, got undefined',
  ],
  [
    { target, headers: { authorization: 'hush\n' } },
    'headers["authorization"]: expected a text without line breaks, got a string (not shown)',
  ],
  [{ target, hostRewrite: true }, "hostRewrite: expected a host such as 'app.example:8080', got true (boolean)"],
  [{ target, localAddress: 1 }, 'localAddress: expected an address of this machine, got 1 (number)'],
  [{ target, logger: 'console' }, `logger: expected ${LOGGER}, got 'console' (string)`],
  [{ target, logger: true }, `logger: expected ${LOGGER}, got true (boolean)`],
  [{ target, method: 'G T' }, "method: expected the name of a method, got 'G T' (string)"],
  [{ target, on: () => {} }, 'on: expected an object of event names and their handlers, got [Function: on] (function)'],
  [{ target, on: { proxyRes: 'log' } }, "on.proxyRes: expected a function, got 'log' (string)"],
  [{ target, on: { proxyreq: () => {} } }, 'on.proxyreq: unknown option, did you mean proxyReq?'],
  [{ target, pathFilter: /a/ }, 'pathFilter: expected a path, a list of paths, or a function, got /a/ (object)'],
  [
    { target, pathFilter: ['/a', 1] },
    "pathFilter: expected a path, a list of paths, or a function, got [ '/a', 1 ] (array)",
  ],
  [{ target, pathRewrite: '/a' }, `pathRewrite: expected ${REWRITES}, got '/a' (string)`],
  [{ target, pathRewrite: { '^/a': 1 } }, 'pathRewrite["^/a"]: expected a text, got 1 (number)'],
  [
    { target, pathRewrite: { '(': '' } },
    "pathRewrite: expected patterns that are regular expressions, got '(' (string)",
  ],
  [{ target, plugins: () => {} }, 'plugins: expected an array of functions, got [Function: plugins] (function)'],
  [{ target, plugins: [1] }, 'plugins[0]: expected a function, got 1 (number)'],
  [
    { target, protocolRewrite: 'ftp' },
    "protocolRewrite: expected 'http' or 'https' or 'http:' or 'https:', got 'ftp' (string)",
  ],
  [{ router: 'http://a' }, `router: expected ${ROUTES}, got 'http://a' (string)`],
  [{ router: { '/a': 'localhost:1' } }, `router["/a"]: expected ${ADDRESS}, got 'localhost:1' (string)`],
  [{ target, ssl: true }, 'ssl: expected an object of TLS options, got true (boolean)'],
  [{ target, ca: 1 }, 'ca: expected certificates as texts or buffers, got 1 (number)'],
  [{ target, upgradeTimeout: '5s' }, `upgradeTimeout: expected ${MS}, got '5s' (string)`],
  ...FLAGS.map((name) => [{ target, [name]: 1 }, `${name}: expected true or false, got 1 (number)`] as const),

  [{ target, balance: 'least' }, `balance: expected ${BALANCES}, got 'least' (string)`],
  [{ target, sticky: 'cookie' }, `sticky: expected ${STICKY}, got 'cookie' (string)`],
  [{ target, sticky: {} }, `sticky: expected one of ${STICKY}, got {} (object)`],
  [
    { target, sticky: { header: 'a', cookie: 'b' } },
    `sticky: expected one of ${STICKY}, got { header: 'a', cookie: 'b' } (object)`,
  ],
  [{ target, sticky: { header: 'a b' } }, "sticky.header: expected the name of a header, got 'a b' (string)"],
  [{ target, sticky: { cookie: '' } }, "sticky.cookie: expected the name of a cookie, got '' (string)"],
  [{ target, sticky: { query: 1 } }, 'sticky.query: expected the name of a query parameter, got 1 (number)'],
  [{ target, sticky: { key: 'id' } }, "sticky.key: expected a function, got 'id' (string)"],
  [
    { target, stripHeaders: 'cookie' },
    "stripHeaders: expected an array of names such as ['cookie'], got 'cookie' (string)",
  ],
  [{ target, stripHeaders: null }, 'stripHeaders: expected a value, or undefined for the default, got null'],
  [{ target, stripHeaders: ['a', 7] }, 'stripHeaders[1]: expected the name of a header, got 7 (number)'],
  [{ target, stripHeaders: ['a b'] }, "stripHeaders[0]: expected the name of a header, got 'a b' (string)"],
  [
    { target, stripHeaders: ['Content-Length'] },
    "stripHeaders[0]: content-length belongs to the connection, and is the proxy's own",
  ],
  [
    { target, share: true, stripHeaders: ['cookie'], on: { proxyReq: () => {} } },
    'share.key: required beside stripHeaders where balance is a function, or with on.proxyReq, on.start or plugins, which may tell clients apart',
  ],
  [{ target, stripHeaders: ['Host'] }, 'stripHeaders[0]: host cannot be left out; use changeOrigin or headers instead'],
  [{ target, sticky: { by: 'id' } }, "sticky.by: expected 'ip', got 'id' (string)"],
  [{ target, sticky: { header: 'a', ttlMs: -1 } }, `sticky.ttlMs: expected ${MS}, got -1 (number)`],
  [{ target, sticky: { headers: 'a' } }, 'sticky.headers: unknown option, did you mean header?'],
  [
    { target, sticky: { issueCookie: 'a b', secret: SECRET } },
    "sticky.issueCookie: expected the name of a cookie, got 'a b' (string)",
  ],
  [
    { target, sticky: { issueCookie: 'a' } },
    'sticky.secret: expected a secret of 16 characters or more, got undefined',
  ],
  [
    { target, sticky: { issueCookie: 'a', secret: SECRET, ttlMs: 1 } },
    'sticky.ttlMs: expected an integer from 1000 to 9007199254740991, got 1 (number)',
  ],

  [{ target, health: 1 }, 'health: expected an object, true or false, got 1 (number)'],
  [{ target, health: { failures: 0 } }, `health.failures: expected ${FROM_1}, got 0 (number)`],
  [{ target, health: { ejectMs: 0 } }, `health.ejectMs: expected ${FROM_1}, got 0 (number)`],
  [
    { target, health: { ejectMs: 100, maxEjectMs: 99 } },
    'health.maxEjectMs: expected an integer from 100 to 2147483647, got 99 (number)',
  ],
  [{ target, health: { probe: true } }, 'health.probe: expected an object, got true (boolean)'],
  [{ target, health: { probe: {} } }, "health.probe.path: expected a path such as '/health', got undefined"],
  [
    { target, health: { probe: { path: 'health' } } },
    "health.probe.path: expected a path such as '/health', got 'health' (string)",
  ],
  [
    { target, health: { probe: { path: '/', intervalMs: 0 } } },
    `health.probe.intervalMs: expected ${FROM_1}, got 0 (number)`,
  ],
  [
    { target, health: { probe: { path: '/', timeoutMs: 0 } } },
    `health.probe.timeoutMs: expected ${FROM_1}, got 0 (number)`,
  ],
  [{ target, health: { probe: { path: '/', rise: 0 } } }, `health.probe.rise: expected ${FROM_1}, got 0 (number)`],
  [{ target, health: { probe: { path: '/', fall: 0 } } }, `health.probe.fall: expected ${FROM_1}, got 0 (number)`],
  [
    { target, health: { probe: { path: '/', every: 1 } } },
    'health.probe.every: unknown option; known are path, intervalMs, timeoutMs, rise, fall',
  ],
  [{ target, health: { failure: 1 } }, 'health.failure: unknown option, did you mean failures?'],

  [{ target, retry: { commit: 'commit' } }, "retry.commit: expected a function, got 'commit' (string)"],
  [{ target, retry: { commit: null } }, 'retry.commit: expected a value, or undefined for the default, got null'],
  [
    { target, retry: { commit: async () => 'commit' } },
    'retry.commit: expected a function that returns its result at once, got an async function',
  ],
  [{ target, retry: { holdMs: 5 } }, 'retry.holdMs: cannot be used without retry.commit, which holds'],
  [{ target, retry: { commit() {}, holdMs: 0 } }, `retry.holdMs: expected ${FROM_1}, got 0 (number)`],
  [
    { target, retry: { commit() {} }, keepalive: { openAfterMs: 5 } },
    'retry.commit: cannot be used with keepalive.openAfterMs, which opens a response before it is held',
  ],
  [{ target, retry: 1 }, 'retry: expected an object, true or false, got 1 (number)'],
  [{ target, retry: { attempts: 101 } }, 'retry.attempts: expected an integer from 0 to 100, got 101 (number)'],
  [{ target, retry: { backoffMs: 1.5 } }, `retry.backoffMs: expected ${MS}, got 1.5 (number)`],
  [
    { target, retry: { backoffMs: 500, maxBackoffMs: 100 } },
    'retry.maxBackoffMs: expected an integer from 500 to 2147483647, got 100 (number)',
  ],
  [{ target, retry: { statuses: 503 } }, 'retry.statuses: expected an array of HTTP statuses, got 503 (number)'],
  [{ target, retry: { methods: 'POST' } }, "retry.methods: expected an array of HTTP methods, got 'POST' (string)"],
  [
    { target, retry: { methods: ['GET', 'PSOT'] } },
    "retry.methods[1]: expected the name of an HTTP method such as 'POST', got 'PSOT' (string)",
  ],
  [
    { target, retry: { methods: [1] } },
    "retry.methods[0]: expected the name of an HTTP method such as 'POST', got 1 (number)",
  ],
  [
    { target, retry: { statuses: [503, 200] } },
    'retry.statuses[1]: expected an integer from 300 to 599, got 200 (number)',
  ],
  [
    { target, retry: { tries: 1 } },
    'retry.tries: unknown option; known are attempts, backoffMs, maxBackoffMs, statuses, methods, commit, holdMs',
  ],

  [{ target, resume: 5 }, 'resume: expected an object, true or false, got 5 (number)'],
  [{ target, resume: { attempts: 0 } }, `resume.attempts: expected ${FROM_1}, got 0 (number)`],
  [{ target, resume: { delayMs: -1 } }, `resume.delayMs: expected ${MS}, got -1 (number)`],
  [
    { target, resume: { delayMs: 100, maxDelayMs: 99 } },
    'resume.maxDelayMs: expected an integer from 100 to 2147483647, got 99 (number)',
  ],
  [{ target, resume: { onEnd: 'yes' } }, "resume.onEnd: expected true or false, got 'yes' (string)"],
  [{ target, resume: { withoutIds: 1 } }, 'resume.withoutIds: expected true or false, got 1 (number)'],
  [{ target, resume: { delay: 1 } }, 'resume.delay: unknown option, did you mean delayMs?'],
  [
    { target, resume: true, framing: 'bytes' },
    "framing: 'bytes' cannot be used with resume, because what has left may end inside an event",
  ],

  [
    { target, keepalive: 9 },
    'keepalive: expected an integer from 10 to 2147483647, false or an object, got 9 (number)',
  ],
  [
    { target, keepalive: 0 },
    'keepalive: expected an integer from 10 to 2147483647, false or an object, got 0 (number)',
  ],
  [
    { target, keepalive: Number.NaN },
    'keepalive: expected an integer from 10 to 2147483647, false or an object, got NaN (number)',
  ],
  [{ target, keepalive: true }, 'keepalive: expected an object, a number of ms or false, got true (boolean)'],
  [{ target, keepalive: '5s' }, "keepalive: expected an object, a number of ms or false, got '5s' (string)"],
  [
    { target, keepalive: { intervalMs: '5s' } },
    "keepalive.intervalMs: expected an integer from 10 to 2147483647, got '5s' (string)",
  ],
  [
    { target, keepalive: { intervalMs: 2 ** 31 } },
    'keepalive.intervalMs: expected an integer from 10 to 2147483647, got 2147483648 (number)',
  ],
  [
    { target, keepalive: { comment: 'a\nb' } },
    "keepalive.comment: expected a text without line breaks, got 'a\\nb' (string)",
  ],
  [
    { target, keepalive: { comment: 'a\r' } },
    "keepalive.comment: expected a text without line breaks, got 'a\\r' (string)",
  ],
  [{ target, keepalive: { comment: 5 } }, 'keepalive.comment: expected a text without line breaks, got 5 (number)'],
  [{ target, keepalive: { blankLine: 0 } }, 'keepalive.blankLine: expected true or false, got 0 (number)'],
  [{ target, keepalive: { openAfterMs: -1 } }, `keepalive.openAfterMs: expected ${MS}, got -1 (number)`],
  [{ target, keepalive: { interval: 5 } }, 'keepalive.interval: unknown option, did you mean intervalMs?'],

  [{ target, fastLane: 'no' }, "fastLane: expected true or false, got 'no' (string)"],
  [{ target, http2: true }, `http2: expected ${HTTP2_MODES}, false or an object, got true (boolean)`],
  [{ target, http2: 'h2c' }, `http2: expected ${HTTP2_MODES}, false or an object, got 'h2c' (string)`],
  [{ target, http2: {} }, `http2.mode: expected ${HTTP2_MODES}, got undefined`],
  [{ target, http2: { mode: 'auto', pingMs: 0.5 } }, `http2.pingMs: expected ${MS}, got 0.5 (number)`],
  [{ target, http2: { mode: 'auto', idleMs: '1s' } }, `http2.idleMs: expected ${MS}, got '1s' (string)`],
  [{ target, http2: { mode: 'auto', ping: 5 } }, 'http2.ping: unknown option, did you mean pingMs?'],

  [{ target, framing: 'line' }, "framing: expected 'event' or 'bytes', got 'line' (string)"],
  [
    { target, framing: 'bytes', transform: hook },
    "framing: 'bytes' cannot be used with transform, because hooks need whole events",
  ],
  [{ target, transform: 'x' }, `transform: expected ${HOOKS}, got 'x' (string)`],
  [{ target, transform: null }, `transform: expected ${HOOKS}, got null`],
  [{ target, transform: [hook, 5] }, 'transform[1]: expected a function, got 5 (number)'],

  [{ target, timeouts: 5000 }, 'timeouts: expected an object, got 5000 (number)'],
  [{ target, timeouts: { connectMs: -1 } }, `timeouts.connectMs: expected ${MS}, got -1 (number)`],
  [
    { target, timeouts: { responseMs: Number.POSITIVE_INFINITY } },
    `timeouts.responseMs: expected ${MS}, got Infinity (number)`,
  ],
  [{ target, timeouts: { firstEventMs: -1 } }, `timeouts.firstEventMs: expected ${MS}, got -1 (number)`],
  [{ target, timeouts: { eventMs: '5s' } }, `timeouts.eventMs: expected ${MS}, got '5s' (string)`],
  [{ target, timeouts: { idleMs: '1' } }, `timeouts.idleMs: expected ${MS}, got '1' (string)`],
  [
    { target, timeouts: { lifetimeMs: -1 } },
    `timeouts.lifetimeMs: expected ${MS} or a function of the request, got -1 (number)`,
  ],
  [{ target, timeouts: { writeMs: 1.5 } }, `timeouts.writeMs: expected ${MS}, got 1.5 (number)`],
  [{ target, timeouts: { connect: 1 } }, 'timeouts.connect: unknown option, did you mean connectMs?'],

  [{ target, limits: [] }, 'limits: expected an object, got [] (array)'],
  [{ target, limits: { streams: 0 } }, `limits.streams: expected ${FROM_1}, got 0 (number)`],
  [{ target, limits: { streamsPerClient: 1.5 } }, `limits.streamsPerClient: expected ${FROM_1}, got 1.5 (number)`],
  [{ target, limits: { clientKey: 'ip' } }, "limits.clientKey: expected a function, got 'ip' (string)"],
  [{ target, limits: { clientKey: async () => 'a' } }, `limits.clientKey: ${AT_ONCE}`],
  [{ target, timeouts: { lifetimeMs: async () => 1 } }, `timeouts.lifetimeMs: ${AT_ONCE}`],
  [{ target, share: { key: async () => 'a' } }, `share.key: ${AT_ONCE}`],
  [{ target, sticky: { key: async () => 'a' } }, `sticky.key: ${AT_ONCE}`],
  [{ target, balance: async () => undefined }, `balance: ${AT_ONCE}`],
  [{ target, pathFilter: async () => true }, `pathFilter: ${AT_ONCE}`],
  [{ target, pathFilter: function* () {} }, `pathFilter: ${AT_ONCE}`],
  [{ target, limits: { ipv6Subnet: 0 } }, 'limits.ipv6Subnet: expected an integer from 1 to 128, got 0 (number)'],
  [{ target, limits: { ipv6Subnet: 129 } }, 'limits.ipv6Subnet: expected an integer from 1 to 128, got 129 (number)'],
  [
    { target, limits: { ipv6Subnet: 56, clientKey: () => '' } },
    'limits.ipv6Subnet: cannot be used with limits.clientKey, which tells clients apart itself',
  ],
  [{ target, share: { maxBytes: 0 } }, `share.maxBytes: expected ${BYTES}, got 0 (number)`],
  [{ target, limits: { eventBytes: 0 } }, `limits.eventBytes: expected ${BYTES}, got 0 (number)`],
  [{ target, limits: { bufferBytes: -1 } }, `limits.bufferBytes: expected ${BYTES}, got -1 (number)`],
  [{ target, limits: { bodyBytes: '1mb' } }, `limits.bodyBytes: expected ${BYTES}, got '1mb' (string)`],
  [{ target, limits: { stream: 1 } }, 'limits.stream: unknown option, did you mean streams?'],

  [{ target, share: 5 }, 'share: expected an object, true or false, got 5 (number)'],
  [{ target, share: { key: 'x' } }, "share.key: expected a function, got 'x' (string)"],
  [{ target, share: { key: '' } }, "share.key: expected a function, got '' (string)"],
  [{ target, health: { probe: false } }, 'health.probe: expected an object, got false (boolean)'],
  [{ target, share: { lingerMs: -1 } }, `share.lingerMs: expected ${MS} or Infinity, got -1 (number)`],
  [
    { target, share: { open: ['POST'] } },
    'share.key: required where share.open has a method with a body: what it returns must contain who the user is',
  ],
  [{ target, share: { keepEndedMs: 1.5 } }, `share.keepEndedMs: expected ${MS}, got 1.5 (number)`],
  [{ target, share: { open: 'GET' } }, "share.open: expected an array of HTTP methods, got 'GET' (string)"],
  [{ target, share: { open: [] } }, 'share.open: expected at least one method, got none'],
  [
    { target, share: { stop: ['ABORT'] } },
    "share.stop[0]: expected the name of an HTTP method such as 'POST', got 'ABORT' (string)",
  ],
  [{ target, share: { stop: ['GET'] } }, 'share.stop: GET cannot stop streams, since it opens or joins them'],
  [{ target, share: { join: ['GET', 'HEAD'] } }, 'share: HEAD cannot open, join or stop streams'],
  [{ target, share: { busy: 'wait' } }, "share.busy: expected 'refuse' or 'join' or 'replace', got 'wait' (string)"],
  [
    { target, share: { replay: { initial: 'some' } } },
    `share.replay.initial: expected ${MS} or 'all', got 'some' (string)`,
  ],
  [{ target, share: { replay: true } }, 'share.replay: expected an object, got true (boolean)'],
  [{ target, share: { replay: { events: 0 } } }, `share.replay.events: expected ${FROM_1}, got 0 (number)`],
  [{ target, share: { replay: { bytes: 0 } } }, `share.replay.bytes: expected ${BYTES}, got 0 (number)`],
  [{ target, share: { replay: { ageMs: 0 } } }, `share.replay.ageMs: expected ${FROM_1}, got 0 (number)`],
  [
    { target, share: { replay: { ids: 'own' } } },
    "share.replay.ids: expected 'upstream' or 'assign', got 'own' (string)",
  ],
  [{ target, share: { replay: { age: 1 } } }, 'share.replay.age: unknown option, did you mean ageMs?'],
  [{ target, share: { linger: 1 } }, 'share.linger: unknown option, did you mean lingerMs?'],
  [{ target, share: true, framing: 'bytes' }, "framing: 'bytes' cannot be used with share, which keeps whole events"],

  [{ target, onDisconnect: 'stop' }, "onDisconnect: expected 'abort', 'drain' or { graceMs }, got 'stop' (string)"],
  [{ target, onDisconnect: 5000 }, "onDisconnect: expected 'abort', 'drain' or { graceMs }, got 5000 (number)"],
  [{ target, onDisconnect: { graceMs: 0 } }, `onDisconnect.graceMs: expected ${FROM_1}, got 0 (number)`],
  [
    { target, onDisconnect: 'drain', from: { format: 'json', everyMs: 1000 } },
    "onDisconnect: 'drain' cannot be used with from: { format: 'json' }, whose polls have no end; use { graceMs }",
  ],
  [{ target, onDisconnect: {} }, `onDisconnect.graceMs: expected ${FROM_1}, got undefined`],
  [{ target, onDisconnect: { grace: 1 } }, 'onDisconnect.grace: unknown option, did you mean graceMs?'],

  [{ target, unavailable: 503 }, "unavailable: expected 'status' or 'reconnect', got 503 (number)"],
  [{ target, clientRetryMs: -1 }, `clientRetryMs: expected ${MS} or [min, max], got -1 (number)`],
  [{ target, clientRetryMs: '1s' }, "clientRetryMs: expected a number of ms or [min, max], got '1s' (string)"],
  [{ target, clientRetryMs: [1] }, 'clientRetryMs: expected a number of ms or [min, max], got [ 1 ] (array)'],
  [{ target, clientRetryMs: ['a', 1] }, `clientRetryMs[0]: expected ${MS}, got 'a' (string)`],
  [{ target, clientRetryMs: [5, 1] }, 'clientRetryMs[1]: expected an integer from 5 to 2147483647, got 1 (number)'],
  [{ target, via: '' }, `via: expected ${VIA}, got '' (string)`],
  [{ target, via: 'a b' }, `via: expected ${VIA}, got 'a b' (string)`],
  [{ target, via: 'a,b' }, `via: expected ${VIA}, got 'a,b' (string)`],
  [{ target, via: 'a\r\n' }, `via: expected ${VIA}, got 'a\\r\\n' (string)`],
  [{ target, via: true }, `via: expected ${VIA}, got true (boolean)`],
  [{ target, name: '' }, `name: expected ${LABEL}, got '' (string)`],
  [{ target, name: 'a\n' }, `name: expected ${LABEL}, got 'a\\n' (string)`],
  [
    { target, name: 'x'.repeat(101) },
    `name: expected ${LABEL}, got '${'x'.repeat(60)}'... 41 more characters (string)`,
  ],
  [{ target, name: 5 }, `name: expected ${LABEL}, got 5 (number)`],
  [{ target, onOpen: 5 }, 'onOpen: expected a function, got 5 (number)'],
  [{ target, isEnd: 'x' }, "isEnd: expected a function, got 'x' (string)"],
  [{ target, isEnd: null }, 'isEnd: expected a function, got null'],
  [
    { target, isEnd: async () => true },
    'isEnd: expected a function that returns its result at once, got an async function',
  ],
  [
    { target, isEnd: () => true, framing: 'bytes' },
    "framing: 'bytes' cannot be used with isEnd, which needs whole events",
  ],
  [{ target, onLost: { data: 'x' } }, "onLost: expected a function, got { data: 'x' } (object)"],
  [{ target, onLost: null }, 'onLost: expected a function, got null'],
  [
    { target, onLost: async () => {} },
    'onLost: expected a function that returns its result at once, got an async function',
  ],
  [
    { target, onLost: () => {}, framing: 'bytes' },
    "framing: 'bytes' cannot be used with onLost, because what has left may end inside an event",
  ],
  [{ target, onEnd: 'x' }, "onEnd: expected a function, got 'x' (string)"],
  [{ target, onClose: {} }, 'onClose: expected a function, got {} (object)'],

  [
    { target, selfHandleResponse: true },
    'selfHandleResponse: this option is not available here; use transform or the on.proxyRes handler instead',
  ],
  [
    { target, proxyTimeout: 1 },
    'proxyTimeout: this option is not available here; use timeouts.responseMs (no answer) and timeouts.idleMs (silent stream) instead',
  ],
  [
    { target, timeout: 1 },
    'timeout: this option is not available here; use timeouts.lifetimeMs (age) and timeouts.writeMs (client that does not read) instead',
  ],
  [
    { target, buffer: {} },
    'buffer: this option is not available here; a body that was already read by a body parser is sent again without it',
  ],

  [{ target, keepAlive: 1 }, 'keepAlive: unknown option, did you mean keepalive?'],
  [{ target, targets: [target] }, 'targets: unknown option, did you mean target?'],
  [{ target, trasnform: hook }, 'trasnform: unknown option, did you mean transform?'],
  [{ target, onclose: hook }, 'onclose: unknown option, did you mean onClose?'],
  [{ target, pathrewrite: {} }, 'pathrewrite: unknown option, did you mean pathRewrite?'],
  [{ target, changeorigin: true }, 'changeorigin: unknown option, did you mean changeOrigin?'],
]

describe('a wrong option is refused at creation, and told', () => {
  for (const [options, message] of REFUSED) {
    test(message, () => {
      assert.throws(
        () => resolveOptions(options as SseProxyOptions),
        (error) => {
          assert.ok(error instanceof TypeError)
          assert.equal(error.message, message)
          assert.equal(error.name, 'ConfigError')
          assert.equal((error as { code?: unknown }).code, 'ERR_SSE_PROXY_OPTION')
          return true
        },
      )
    })
  }

  for (const key of ['balance', 'sticky', 'health'] as const) {
    test(`${key} with a router, which chooses`, () => {
      const options = { router: () => target, [key]: key === 'balance' ? 'random' : key === 'sticky' ? 'ip' : {} }

      assert.throws(() => resolveOptions(options as SseProxyOptions), new RegExp(`^ConfigError: ${key}: .*router`))
    })
  }

  test('an option that nothing is like', () => {
    assert.throws(() => resolve({ heartbeat: 5 } as SseProxyOptions), /^ConfigError: heartbeat: unknown option/)
    assert.throws(() => resolve({ foo: 5 } as SseProxyOptions), /^ConfigError: foo: unknown option(?!.*did you mean)/)
  })

  for (const key of OWN_OPTIONS) {
    test(`${key}: null is not the same as nothing`, () => {
      assert.throws(
        () => resolveOptions({ target, [key]: null } as never),
        (error) => {
          assert.ok(error instanceof TypeError)
          assert.match(error.message, new RegExp(`^${key}: expected .*, got null$`))
          return true
        },
      )
    })
  }

  for (const [options, path] of [
    [{ timeouts: { responseMs: null } }, 'timeouts.responseMs'],
    [{ timeouts: { lifetimeMs: null } }, 'timeouts.lifetimeMs'],
    [{ limits: { streams: null } }, 'limits.streams'],
    [{ limits: { eventBytes: null } }, 'limits.eventBytes'],
    [{ keepalive: { intervalMs: null } }, 'keepalive.intervalMs'],
    [{ keepalive: { comment: null } }, 'keepalive.comment'],
    [{ resume: { attempts: null } }, 'resume.attempts'],
    [{ retry: { statuses: null } }, 'retry.statuses'],
    [{ retry: { methods: null } }, 'retry.methods'],
    [{ health: { failures: null } }, 'health.failures'],
    [{ health: { probe: null } }, 'health.probe'],
    [{ share: { replay: null } }, 'share.replay'],
    [{ share: { replay: { events: null } } }, 'share.replay.events'],
  ] as const) {
    test(`${path}: null is not the same as nothing`, () => {
      assert.throws(
        () => resolveOptions({ target, ...options } as never),
        new RegExp(`^ConfigError: ${path.replaceAll('.', '\\.')}: expected .*, got null$`),
      )
    })
  }

  test('what is refused is not told where it is a secret', () => {
    for (const options of [
      { target, sticky: { issueCookie: 'a', secret: 'hush' } },
      { target: 'ftp://user:hush@a/' },
      { target: new URL('ftp://user:hush@a/') },
    ]) {
      assert.throws(
        () => resolveOptions(options),
        (error) => error instanceof TypeError && !inspect(error).includes('hush'),
      )
    }
  })
})

describe('what is taken', () => {
  for (const given of [
    'http://localhost:8080/events',
    'https://a',
    'HTTP://[::1]:80/',
    new URL('http://a/x?y'),
    { host: 'a', port: 1 },
    { socketPath: '/run/a.sock' },
    { protocol: 'https:', hostname: 'a', port: 1, ca: 'x' },
    { url: 'http://a', weight: 0.5 },
    ['http://a'],
    ['http://a', new URL('http://b'), { url: 'http://c', weight: 3 }, { host: 'd', port: 1 }],
    [
      { host: 'a', port: 1 },
      { host: 'a', port: 2 },
    ],
  ]) {
    test(`target: ${inspect(given, { breakLength: Number.POSITIVE_INFINITY, depth: 1 }).slice(0, 90)}`, () => {
      assert.doesNotThrow(() => resolveOptions({ target: given as SseProxyOptions['target'] }))
    })
  }

  for (const options of [
    { router: () => target },
    { router: { '/a': target } },
    { router: () => target, target },
    { forward: target },
    { balance: () => undefined as never, target: [target, other] },
    { sticky: 'ip', target },
    { sticky: { by: 'ip', ttlMs: 1000 }, target },
    { sticky: { key: () => 'a' }, target },
    { sticky: { issueCookie: 'a', secret: SECRET }, target },
    { health: false, target },
    { health: { probe: { path: '/health' } }, target },
    { retry: false, target: [target, other] },
    { resume: { onEnd: true }, target },
    { share: true, target },
    { framing: 'bytes', target },
    { fastLane: false, target },
    { http2: false, target },
    { http2: 'auto', target },
    { http2: { mode: 'prior-knowledge', pingMs: 0, idleMs: 1 }, target },
    { keepalive: false, target },
    { limits: { streams: 1 }, target },
    { onDisconnect: { graceMs: 1 }, target },
    { unavailable: 'reconnect', target },
    { via: false, target },
    { name: 'Übersicht 1', target },
    { timeouts: { lifetimeMs: () => 1 }, target },
  ]) {
    test(inspect(options, { breakLength: Number.POSITIVE_INFINITY }).slice(0, 100), () => {
      assert.doesNotThrow(() => resolveOptions(options as SseProxyOptions))
    })
  }
})

test('the defaults', () => {
  assert.deepEqual(values(resolve()), {
    fallback: target,
    retry: false,
    probe: undefined,
    resume: false,
    keepalive: { intervalMs: 15_000, bytes: Buffer.from(': keepalive\n\n'), openAfterMs: 0 },
    framing: 'event',
    hooks: [],
    timeouts: {
      connectMs: 10_000,
      responseMs: 120_000,
      firstEventMs: 0,
      eventMs: 0,
      idleMs: 0,
      lifetimeMs: 0,
      writeMs: 60_000,
    },
    limits: { streams: 0, streamsPerClient: 0, eventBytes: 1_048_576, bufferBytes: 1_048_576, bodyBytes: 1_048_576 },
    share: false,
    stripHeaders: [],
    isEnd: undefined,
    onLost: undefined,
    from: undefined,
    to: undefined,
    http2: false,
    fastLane: true,
    graceMs: 0,
    unavailable: 'status',
    clientRetryMs: [1000, 5000],
    via: 'sse-proxy-middleware',
    name: 'sse-proxy',
    onOpen: undefined,
    onEnd: undefined,
    onClose: undefined,
    hpm: {},
  })
})

test('a client is its address', () => {
  const { clientKey } = resolve().limits

  assert.equal(clientKey({ socket: { remoteAddress: '192.0.2.7' } } as IncomingMessage), '192.0.2.7')
})

for (const [targets, attempts] of [
  [2, 1],
  [3, 2],
  [4, 3],
  [5, 3],
  [9, 3],
] as const) {
  test(`with ${targets} targets a request is tried again ${attempts} times`, () => {
    const list = Array.from({ length: targets }, (_, i) => `http://localhost:${i + 1}`)

    const { retry } = resolveOptions({ target: list }).upstreams

    assert.deepEqual(retry, {
      attempts,
      backoffMs: 100,
      maxBackoffMs: 2000,
      statuses: [502, 503, 504],
      methods: ['GET', 'HEAD'],
    })
  })
}

describe('undefined means the default', () => {
  test('for every option', () => {
    const undefineds = Object.fromEntries(OWN_OPTIONS.filter((key) => key !== 'target').map((key) => [key, undefined]))

    assert.deepEqual(values(resolve(undefineds as SseProxyOptions)), values(resolve()))
  })

  test('for every member of a group', () => {
    const members = (...names: string[]) => Object.fromEntries(names.map((name) => [name, undefined]))

    assert.deepEqual(
      values(
        resolve({
          health: members('failures', 'ejectMs', 'maxEjectMs', 'probe'),
          keepalive: members('intervalMs', 'comment', 'openAfterMs', 'blankLine'),
          timeouts: members('connectMs', 'responseMs', 'firstEventMs', 'eventMs', 'idleMs', 'lifetimeMs', 'writeMs'),
          limits: members(
            'streams',
            'streamsPerClient',
            'clientKey',
            'ipv6Subnet',
            'eventBytes',
            'bufferBytes',
            'bodyBytes',
          ),
        }),
      ),
      values(resolve()),
    )
    assert.deepEqual(
      resolve({ resume: members('attempts', 'delayMs', 'maxDelayMs', 'onEnd', 'withoutIds') }).resume,
      resolve({ resume: true }).resume,
    )
    assert.deepEqual(
      resolve({
        share: members(
          'key',
          'open',
          'join',
          'stop',
          'busy',
          'lingerMs',
          'keepEndedMs',
          'transform',
          'replay',
          'onGap',
        ),
      }).share,
      resolve({ share: true }).share,
    )
  })

  test('for an option of http-proxy-middleware', () => {
    assert.deepEqual({ ...resolve({ changeOrigin: undefined } as never).hpm }, {})
  })

  test('for an option that would be refused', () => {
    const refused = { selfHandleResponse: undefined, proxyTimeout: undefined, timeout: undefined, buffer: undefined }

    assert.doesNotThrow(() => resolve(refused as never))
  })
})

describe('what an option becomes', () => {
  for (const [given, expected] of [
    [false, false],
    [20, { intervalMs: 20, bytes: Buffer.from(': keepalive\n\n'), openAfterMs: 0 }],
    [{}, { intervalMs: 15_000, bytes: Buffer.from(': keepalive\n\n'), openAfterMs: 0 }],
    [{ blankLine: true }, { intervalMs: 15_000, bytes: Buffer.from(': keepalive\n\n'), openAfterMs: 0 }],
    [{ blankLine: false }, { intervalMs: 15_000, bytes: Buffer.from(': keepalive\n'), openAfterMs: 0 }],
    [{ comment: '' }, { intervalMs: 15_000, bytes: Buffer.from(': \n\n'), openAfterMs: 0 }],
    [
      { comment: 'noch da: ü', intervalMs: 10, openAfterMs: 5 },
      { intervalMs: 10, bytes: Buffer.from(': noch da: ü\n\n'), openAfterMs: 5 },
    ],
  ] as const) {
    test(`keepalive ${inspect(given)}`, () => {
      assert.deepEqual(resolve({ keepalive: given }).keepalive, expected)
    })
  }

  for (const [given, expected] of [
    ['abort', 0],
    ['drain', Number.POSITIVE_INFINITY],
    [{ graceMs: 5000 }, 5000],
  ] as const) {
    test(`onDisconnect ${inspect(given)}`, () => {
      assert.equal(resolve({ onDisconnect: given }).graceMs, expected)
    })
  }

  for (const [given, expected] of [
    [0, [0, 0]],
    [2000, [2000, 2000]],
    [
      [1, 1],
      [1, 1],
    ],
    [
      [0, 5],
      [0, 5],
    ],
  ] as const) {
    test(`clientRetryMs ${inspect(given)}`, () => {
      assert.deepEqual(resolve({ clientRetryMs: given }).clientRetryMs, expected)
    })
  }

  test('transform: one hook, several, none', () => {
    assert.deepEqual(resolve({ transform: hook }).hooks, [hook])
    assert.deepEqual(resolve({ transform: [hook, hook] }).hooks, [hook, hook])
    assert.deepEqual(resolve({ transform: [] }).hooks, [])
    assert.doesNotThrow(() => resolve({ transform: [], framing: 'bytes' }))
  })

  test('resume: true is the defaults', () => {
    const defaults = { attempts: 10, delayMs: 100, maxDelayMs: 5000, onEnd: false, withoutIds: false }

    assert.deepEqual(resolve({ resume: true }).resume, defaults)
    assert.deepEqual(resolve({ resume: {} }).resume, defaults)
    assert.deepEqual(resolve({ resume: { delayMs: 9000 } }).resume, { ...defaults, delayMs: 9000, maxDelayMs: 9000 })
    assert.equal(resolve({ resume: false }).resume, false)
  })

  test('timeouts: 0 is none', () => {
    const none = { connectMs: 0, responseMs: 0, firstEventMs: 0, eventMs: 0, idleMs: 0, lifetimeMs: 0, writeMs: 0 }

    assert.deepEqual(resolve({ timeouts: none }).timeouts, none)
  })
})

test('what has been resolved cannot be changed', () => {
  const resolved = resolveOptions({
    target: [target, other],
    keepalive: 20,
    transform: [hook],
    resume: true,
    share: true,
    health: { probe: { path: '/health' } },
  })
  const { upstreams, share, ...rest } = resolved

  assert.ok(Object.isFrozen(resolved))
  for (const [name, group] of Object.entries({
    ...rest,
    share,
    'share.replay': share ? share.replay : undefined,
    'share.transform': share ? share.transform : undefined,
    upstreams,
    'upstreams.retry': upstreams.retry,
    'upstreams.retry.statuses': upstreams.retry ? upstreams.retry.statuses : undefined,
    'upstreams.probe': upstreams.probe,
  })) {
    if (typeof group === 'object') assert.ok(Object.isFrozen(group), `${name} is not frozen`)
  }
})

test('what is done to the options afterwards changes nothing', () => {
  const transform = [hook]
  const timeouts = { connectMs: 1 }
  const clientRetryMs: [number, number] = [1, 2]
  const statuses = [503]
  const options = { target, transform, timeouts, clientRetryMs, retry: { statuses }, changeOrigin: true }
  const resolved = resolveOptions(options)
  const before = inspect(values(resolved), { depth: 9 })

  transform.push(hook)
  timeouts.connectMs = 2
  clientRetryMs[0] = 9
  statuses.push(404)
  options.changeOrigin = false

  assert.equal(inspect(values(resolved), { depth: 9 }), before)
})

test('the options are left as they were given', () => {
  const options = Object.freeze({ target, keepalive: Object.freeze({}), transform: Object.freeze([hook]) })

  assert.doesNotThrow(() => resolveOptions(options))
})

test('null is none where an option of http-proxy-middleware is meant, as there', () => {
  const given = Object.fromEntries(PASSED_OPTIONS.map((name) => [name, null]))

  assert.deepEqual({ ...resolveOptions({ target, ...given }).hpm }, {})
})

for (const [name, value] of [
  ['agent', false],
  ['agent', new Agent()],
  ['cookieDomainRewrite', false],
  ['cookieDomainRewrite', { a: '', '*': 'b' }],
  ['followRedirects', 3],
  ['headers', { a: 'b', 'x-n': 1, 'x-list': ['a', 'b'], host: 'a.example' }],
  ['on', { error: undefined, proxyRes: () => {} }],
  ['pathFilter', ['/a', '/b']],
  ['pathRewrite', {}],
  ['pathRewrite', () => '/a'],
  ['protocolRewrite', 'https'],
  ['router', { 'a.example': { host: 'a', port: 1 }, '/b': new URL('http://b'), '/c': 'wss://c' }],
  ['ca', [Buffer.from('a'), 'b']],
] as const) {
  test(`${name}: ${inspect(value, { depth: 0 })} is taken`, () => {
    assert.equal(Reflect.get(resolveOptions({ target, [name]: value }).hpm, name), value)
  })
}

test('a filter and a logger are taken, and asked and told as they are', () => {
  const lines: unknown[][] = []
  const logger = Object.assign(() => {}, {
    info: () => {},
    warn: () => {},
    error: (...line: unknown[]) => lines.push(line),
  })

  const { hpm } = resolveOptions({ target, logger, pathFilter: (path) => path === '/a' })
  hpm.logger?.error('%s', 1)

  assert.deepEqual(lines, [['%s', 1]])
  assert.ok(typeof hpm.pathFilter === 'function')
  assert.deepEqual(
    ['/a', '/b'].map((path) => (hpm.pathFilter as (path: string) => unknown)(path)),
    [true, false],
  )
})

type Passed = Exclude<
  keyof HpmOptions,
  'target' | 'http2' | 'selfHandleResponse' | 'proxyTimeout' | 'timeout' | 'buffer'
>

test('every option of http-proxy-middleware passes as it is', () => {
  // The compiler asks for the new ones of a new release.
  const passed: { readonly [key in Passed]-?: unknown } = {
    agent: new Agent(),
    auth: 'a:b',
    autoRewrite: true,
    changeOrigin: true,
    cookieDomainRewrite: 'a',
    cookiePathRewrite: '/',
    ejectPlugins: true,
    followRedirects: true,
    forward: target,
    headers: { a: 'b' },
    hostRewrite: 'a',
    ignorePath: true,
    localAddress: '127.0.0.1',
    logger: console,
    on: {},
    pathFilter: '/a',
    pathRewrite: { a: 'b' },
    plugins: [],
    prependPath: false,
    preserveHeaderKeyCase: true,
    protocolRewrite: 'https',
    router: { '/a': target },
    secure: false,
    ssl: {},
    toProxy: true,
    upgradeTimeout: 1,
    ws: true,
    xfwd: true,
  }

  const { hpm } = resolveOptions({ target, ...passed } as SseProxyOptions)

  // A logger that throws may harm nobody.
  assert.equal(Object.getPrototypeOf(hpm.logger), console)
  assert.deepEqual({ ...hpm, logger: console }, passed)
})
