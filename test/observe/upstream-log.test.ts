import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { StreamError, UpstreamError, type UpstreamErrorCode } from '../../src/errors.ts'
import { UpstreamLog } from '../../src/observe/upstream-log.ts'

const upstream = 'http://127.0.0.1:81/events'
const refused = unreachable('connect ECONNREFUSED 127.0.0.1:81', 'ECONNREFUSED')

function unreachable(
  message: string,
  code: string,
  ours: UpstreamErrorCode = 'ERR_SSE_PROXY_UNREACHABLE',
): UpstreamError {
  return new UpstreamError(ours, upstream, Object.assign(new Error(message), { code }))
}

function logging() {
  const lines: string[] = []
  const to = (level: string) => (message: unknown) => void lines.push(`${level}: ${String(message)}`)
  const log = new UpstreamLog({ info: to('info'), warn: to('warn'), error: to('error') }, 'sse-proxy')
  return { log, lines }
}

test('the first failure says where, what the system said, and what to look at', () => {
  const { log, lines } = logging()

  log.failed(upstream, refused, 0)

  assert.deepEqual(lines, [
    'error: [sse-proxy] http://127.0.0.1:81/events: The upstream could not be reached (connect ECONNREFUSED 127.0.0.1:81). Does the backend run, and does it listen on this port and address?',
  ])
})

test('the next ones are told each minute at most, with their number', () => {
  const { log, lines } = logging()

  for (let second = 0; second <= 125; second++) log.failed(upstream, refused, second * 1000)

  assert.equal(lines.length, 3)
  assert.match(lines[1]!, /\(61 failures so far\)$/)
  assert.match(lines[2]!, /\(121 failures so far\)$/)
})

test('each upstream has its own minute', () => {
  const { log, lines } = logging()

  log.failed(upstream, refused, 0)
  log.failed('http://127.0.0.1:82', refused, 0)
  log.failed(upstream, refused, 1)

  assert.equal(lines.length, 2)
})

test('its coming back is told once, where its failure was', () => {
  const { log, lines } = logging()
  log.answered(upstream)
  for (let times = 0; times < 3; times++) log.failed(upstream, refused, 0)

  log.answered(upstream)
  log.answered(upstream)

  assert.equal(lines.length, 2)
  assert.equal(lines[1], 'info: [sse-proxy] http://127.0.0.1:81/events answers again, after 3 failures')
})

test('one that comes and goes is told of each minute at most', () => {
  const { log, lines } = logging()

  for (let times = 0; times < 100; times++) {
    log.failed(upstream, refused, times * 100)
    log.answered(upstream)
  }
  log.failed(upstream, refused, 60_000)

  assert.deepEqual(
    lines.map((line) => line.split(':')[0]),
    ['error', 'info', 'error'],
  )
})

test('upstreams that a router makes up are not remembered without end', () => {
  const { log, lines } = logging()

  for (let port = 0; port < 1001; port++) log.failed(`http://a:${port}`, refused, 0)
  log.failed('http://a:1', refused, 1)
  log.failed('http://a:0', refused, 1)

  assert.equal(lines.length, 1002)
})

test('a name with several addresses has failed at each', () => {
  const { log, lines } = logging()
  const each = ['connect ECONNREFUSED ::1:81', 'connect ECONNREFUSED 127.0.0.1:81'].map((text) => new Error(text))
  const cause = Object.assign(new AggregateError(each), { code: 'ECONNREFUSED' })

  log.failed(upstream, new UpstreamError('ERR_SSE_PROXY_UNREACHABLE', upstream, cause), 0)

  assert.match(lines[0]!, /\(connect ECONNREFUSED ::1:81, connect ECONNREFUSED 127\.0\.0\.1:81\)/)
})

describe('what to look at', () => {
  for (const [error, advice] of [
    [unreachable('getaddrinfo ENOTFOUND a.invalid', 'ENOTFOUND'), /host name right/],
    [unreachable('connect ETIMEDOUT', 'ETIMEDOUT'), /firewall/],
    [unreachable('connect ENOENT /run/a.sock', 'ENOENT'), /socket at this path/],
    [unreachable('self-signed certificate', 'DEPTH_ZERO_SELF_SIGNED_CERT'), /secure: false/],
    [unreachable('unable to verify the first certificate', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'), /secure: false/],
    [unreachable("Hostname/IP does not match certificate's altnames", 'ERR_TLS_CERT_ALTNAME_INVALID'), /secure: false/],
    [unreachable('wrong version number', 'ERR_SSL_WRONG_VERSION_NUMBER'), /speak TLS/],
    [unreachable('Parse Error', 'HPE_INVALID_CONSTANT', 'ERR_SSE_PROXY_BAD_ANSWER'), /https:/],
    [unreachable('socket hang up', 'ECONNRESET', 'ERR_SSE_PROXY_BAD_ANSWER'), /restart/],
    [new UpstreamError('ERR_SSE_PROXY_CONNECT_TIMEOUT'), /timeouts\.connectMs/],
    [new UpstreamError('ERR_SSE_PROXY_RESPONSE_TIMEOUT'), /timeouts\.responseMs/],
    [new StreamError('ERR_SSE_PROXY_IDLE'), /timeouts\.idleMs/],
    [new StreamError('ERR_SSE_PROXY_UPSTREAM_LOST'), /restart/],
    [new UpstreamError('ERR_SSE_PROXY_BAD_ANSWER'), /speak HTTP/],
  ] as const) {
    test(`${error.code} ${error.cause instanceof Error ? error.cause.message : ''}`, () => {
      const { log, lines } = logging()

      log.failed(upstream, error, 0)

      assert.match(lines[0]!, advice)
    })
  }
})
