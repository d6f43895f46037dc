// The log of a key in Redis: a stream whose ids are the positions, and beside it who owns it. One script takes a key or
// appends to it, so that what is refused leaves no trace, and nothing is told that is not there.

import { createHash } from 'node:crypto'
import { isAfter } from '../share/position.ts'
import type { Added, Addition, Claim, KeyState, StoredEntry } from '../share-store.ts'
import { idOf, listOf, numberOf, positionOf, textOf, unknownReply } from './replies.ts'

/** A script, and what a server that has it calls it. */
export interface Script {
  readonly text: string
  readonly sha: string
}

export function scriptOf(text: string): Script {
  return { text, sha: createHash('sha1').update(text).digest('hex') }
}

// A fence is not remembered for longer after it was given: by then the clock alone is higher, unless it goes back by more.
const FENCE_MS = 3_600_000

// What is not larger is told with the doorbell, so that followers need not read. Larger ones are read from the log in pages
// by those who want them: Redis keeps a message for each subscriber, and cuts off those for whom it keeps too much.
const TOLD_BYTES = 65_536

/**
 * KEYS: the log, who owns it (`<last> <first> <node>`, kept as long as the log), the latest fence.
 * ARGV: the node that takes the key, or '' to append; the fence to be replaced, or the entry to follow; the first entry to
 * keep; for how long; the channel; whether entries are told; the entries.
 * Returns `+<fence>`, or who owns it where it is refused.
 */
export const LOG_SCRIPT: Script = scriptOf(`
local log, owned, fences = KEYS[1], KEYS[2], KEYS[3]
local node, expected, keep_from, keep_ms, channel, is_told = unpack(ARGV, 1, 6)
local state = redis.call('EXISTS', log) == 1 and redis.call('GET', owned) or ''
local last, first, owner = string.match(state, '^(%S+) (%S+) (%S+)$')
local fence, seq
if node ~= '' then
  local replaced = last and string.match(last, '^%d+') or '0'
  if replaced ~= expected then return state end
  if not last then redis.call('DEL', log) end
  local now = redis.call('TIME')
  local before = math.max(tonumber(redis.call('GET', fences) or 0), tonumber(replaced))
  fence = string.format('%.0f', math.max(before + 1, now[1] * 1000 + math.floor(now[2] / 1000)))
  redis.call('SET', fences, fence, 'PX', ${FENCE_MS})
  owner, seq, first = node, 0, first or fence .. '-0'
else
  if last ~= expected then return state end
  fence, seq = string.match(last, '^(%d+)-(%d+)$')
  seq = seq + 1
end
local told, lengths = '', { string.format('%s-%.0f', fence, seq) }
for i = 7, #ARGV do
  last = string.format('%s-%.0f', fence, seq + i - 7)
  redis.call('XADD', log, last, 'b', ARGV[i])
  lengths[#lengths + 1] = #ARGV[i]
end
if node == '' and redis.call('XTRIM', log, 'MINID', keep_from) > 0 then
  first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1][1]
end
if tonumber(keep_ms) > 0 then
  redis.call('SET', owned, last .. ' ' .. first .. ' ' .. owner, 'PX', keep_ms)
  redis.call('PEXPIRE', log, keep_ms)
else
  redis.call('DEL', log, owned)
end
if is_told == '1' then told = table.concat(lengths, ' ') .. '\\n' .. table.concat(ARGV, '', 7) end
redis.call('PUBLISH', channel, told)
return '+' .. fence`)

/** The arguments of the script that make a node the owner. */
export function claimArguments({ node, replaces, head, keepMs }: Claim, channel: string): (string | Buffer)[] {
  return [node, `${replaces}`, '', wholeMs(keepMs), channel, isTold([head]), head]
}

/** The arguments of the script that append. */
export function additionArguments(addition: Addition, channel: string): (string | Buffer)[] {
  const { after, entries, keepFrom, keepMs } = addition
  const last = entries.at(-1)?.position ?? after
  const contents = entries.map(({ bytes }) => bytes)
  // The latest entry stays in any case.
  const first = isAfter(keepFrom, last) ? last : keepFrom
  return ['', idOf(after), idOf(first), wholeMs(keepMs), channel, isTold(contents), ...contents]
}

function isTold(contents: readonly Buffer[]): string {
  return contents.reduce((sum, { length }) => sum + length, 0) <= TOLD_BYTES ? '1' : '0'
}

export function wholeMs(ms: number): string {
  return `${Math.max(Math.ceil(ms), 0)}`
}

/** What the script has returned. */
export function addedOf(reply: unknown): Added {
  const text = textOf(reply)
  return text.startsWith('+')
    ? { isRefused: false, fence: numberOf(text.slice(1)) }
    : { isRefused: true, state: stateOf(text) }
}

/** Who owns a key, as the script has written it. */
export function stateOf(text: string | undefined): KeyState | undefined {
  if (!text) return undefined
  const [last, first, owner] = text.split(' ')
  return { owner: owner ?? unknownReply(), first: positionOf(first), last: positionOf(last) }
}

/** The entries in a reply to XRANGE. They are copies: clients give parts of what was read from the socket, which would be kept as a whole. */
export function entriesOf(reply: unknown): StoredEntry[] {
  return listOf(reply).map((entry) => {
    const [id, fields] = listOf(entry, 2)
    const [, bytes] = listOf(fields, 2)
    return { position: positionOf(textOf(id)), bytes: Buffer.isBuffer(bytes) ? Buffer.from(bytes) : unknownReply() }
  })
}

/** The entries that a message of the script tells: none where they were too large. Copies as well. */
export function toldEntries(message: Buffer): StoredEntry[] {
  const end = message.indexOf('\n')
  if (end === -1) return []
  const [id, ...lengths] = message.toString('latin1', 0, end).split(' ')
  const { fence, seq } = positionOf(id)
  let from = end + 1
  const entries = lengths.map((length, i) => {
    from += numberOf(length)
    return { position: { fence, seq: seq + i }, bytes: Buffer.from(message.subarray(from - Number(length), from)) }
  })
  return from === message.length ? entries : unknownReply()
}
