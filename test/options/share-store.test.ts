import assert from 'node:assert/strict'
import { test } from 'node:test'
import { memoryStore, sseProxy } from 'sse-proxy-middleware'
import { refusingUrl } from '../support/several-upstreams.ts'

test('what is no store is refused with a word on where to get one', () => {
  for (const store of [{}, 'redis://localhost', memoryStore]) {
    assert.throws(
      () => sseProxy({ target: refusingUrl, share: { store: store as never } }),
      /^ConfigError: share\.store: expected a store: memoryStore\(\), or redisStore\(\) of sse-proxy-middleware\/redis, got /,
    )
  }
})

test('a store is refused beside a source that each node polls by itself', () => {
  assert.throws(
    () => sseProxy({ target: refusingUrl, from: { format: 'json', everyMs: 1000 }, share: { store: memoryStore() } }),
    /^ConfigError: share\.store: cannot be used with from: \{ format: 'json' \}/,
  )
})
