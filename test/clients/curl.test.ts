// Two shells: one asks, one reads along, and one of them stops it.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { chats } from '../support/outliving.ts'

const run = promisify(execFile)

test('curl asks, reads along from the start, and stops', async (t) => {
  const skipped = await run('curl', ['--version']).then(
    () => false,
    () => true,
  )
  if (skipped) return t.skip('curl is not installed')
  const room = await chats(t)
  const url = `${room.front.url}/1`

  const asking = run('curl', ['-sN', url, '-H', 'content-type: application/json', '-d', '{"text":"hello"}'])
  const exchange = await room.upstream.next()
  const question = String(await exchange.body())
  exchange.stream().send({ data: 'one' })
  const reading = run('curl', ['-sN', url])
  await room.arrivals(2)
  const stopped = await run('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', '-X', 'DELETE', url])
  const late = await run('curl', ['-s', '-w', '%{http_code}', url])

  assert.match((await asking).stdout, /^data: one\nid: .*\n\n$/)
  assert.equal((await reading).stdout, (await asking).stdout)
  assert.deepEqual([stopped.stdout, late.stdout], ['204', '204'])
  assert.equal(question, '{"text":"hello"}')
})
