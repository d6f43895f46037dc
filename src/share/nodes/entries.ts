// What the entries of a key's log say, and their bytes. A run is one stream from its opening to its outcome; it may have
// several owners, one after the other.

import type { Position } from '../../share-store.ts'
import type { Header } from '../../upstream-response.ts'
import type { LogEntry } from '../event-log.ts'

/** How a run is over, or why its owner has left it. */
export type Outcome =
  /** The upstream has ended cleanly. */
  | 'ended'
  /** The upstream is lost, and no node can go on with it. */
  | 'lost'
  /** The app has closed or stopped it. */
  | 'stopped'
  /** Another run has taken its place. */
  | 'replaced'
  /** The answer was no stream, or there was none: each node asks for itself. */
  | 'unshared'
  /** It had no followers left. */
  | 'left'

/** How a run is over for the clients of one node: beside the outcome it may be that there is none for them. */
export type LocalOutcome =
  | Outcome
  /** One is under way, and it was to be a new one. */
  | 'busy'
  /** There is none to join. */
  | 'none'

/** Under which head clients get a stream. */
export interface RunHead {
  readonly statusMessage: string
  /** Those that describe the content. */
  readonly headers: readonly Header[]
  /** The id that the upstream was asked to begin after. */
  readonly idBefore: string
}

export type HeadRun = 'new' | 'replace' | 'same' | 'stop'

/** What one entry says. */
export type Entry =
  /**
   * The first of a fence. 'same' goes on with the run that there is, 'stop' ends it. 'replace' begins a new one in its place,
   * as the app wants it; 'new' begins one where there is none, or one that no node can go on with.
   */
  | {
      readonly kind: 'head'
      readonly node: string
      readonly run: HeadRun
      /** The fence that the run began with, where it is not this one. */
      readonly began?: number | undefined
      /** Whether another node may ask the upstream again. */
      readonly isReopenable: boolean
    }
  /** The owner lives, although its upstream does not answer yet, or is silent. */
  | { readonly kind: 'alive' }
  /** The upstream has answered: events follow. Said again before it would be dropped. */
  | {
      readonly kind: 'opened'
      readonly head: RunHead
      readonly isReopenable: boolean
      /** The fence that the run began with. */
      readonly began: number | undefined
      /** The latest events that those to come go on after; undefined for the beginning of the run. */
      readonly follows: Position | undefined
      /** Whether that is not known for sure: those to come may begin anywhere. */
      readonly hasGap: boolean
    }
  /** Events are missing here: the upstream could not be asked to go on. */
  | { readonly kind: 'gap' }
  /** Blocks of the stream, comments included, and the upstream's own id after them. */
  | { readonly kind: 'events'; readonly blocks: readonly LogEntry[]; readonly cursor: string }
  /** The last of its owner. */
  | { readonly kind: 'outcome'; readonly outcome: Outcome | 'handed-over' }

// What is in front of the blocks of events.
interface EventsHead {
  readonly kind: 'events'
  readonly cursor: string
  /** Of each block its length, whether it is an event, and its id. */
  readonly blocks: readonly (readonly [length: number, isEvent: 0 | 1, id?: string])[]
}

const LF = 10

export function encodeEntry(entry: Entry): Buffer {
  if (entry.kind !== 'events') return Buffer.from(`${JSON.stringify(entry)}\n`)
  const blocks = entry.blocks.map(({ bytes, isEvent, id }): EventsHead['blocks'][number] =>
    id === undefined ? [bytes.length, isEvent ? 1 : 0] : [bytes.length, isEvent ? 1 : 0, id],
  )
  const head: EventsHead = { kind: 'events', cursor: entry.cursor, blocks }
  return Buffer.concat([Buffer.from(`${JSON.stringify(head)}\n`), ...entry.blocks.map(({ bytes }) => bytes)])
}

/** @throws Error where the bytes are none that a node has written */
export function decodeEntry(bytes: Buffer): Entry {
  const end = bytes.indexOf(LF)
  const head: unknown = JSON.parse(bytes.toString('utf8', 0, Math.max(end, 0)))
  if (isEventsHead(head)) return { kind: 'events', cursor: head.cursor, blocks: blocksOf(head, bytes, end + 1) }
  if (isOther(head)) return head
  throw new Error('the store holds an entry that no node has written')
}

/** Undefined where no node has written it: what it should have said is missing. */
export function readable(bytes: Buffer): Entry | undefined {
  try {
    return decodeEntry(bytes)
  } catch {
    return undefined
  }
}

function blocksOf({ blocks }: EventsHead, bytes: Buffer, start: number): LogEntry[] {
  let from = start
  const read = blocks.map(([length, isEvent, id]): LogEntry => {
    from += length
    return { bytes: bytes.subarray(from - length, from), id, isEvent: isEvent === 1 }
  })
  if (from !== bytes.length) throw new Error('the store holds an entry that is cut')
  return read
}

function isEventsHead(value: unknown): value is EventsHead {
  if (!isRecord(value) || value.kind !== 'events' || typeof value.cursor !== 'string') return false
  return Array.isArray(value.blocks) && value.blocks.every(isBlock)
}

function isBlock(value: unknown): boolean {
  if (!Array.isArray(value)) return false
  const [length, isEvent, id] = value
  const hasId = id === undefined || typeof id === 'string'
  return Number.isSafeInteger(length) && length >= 0 && (isEvent === 0 || isEvent === 1) && hasId
}

function isOther(value: unknown): value is Exclude<Entry, { kind: 'events' }> {
  if (!isRecord(value)) return false
  switch (value.kind) {
    case 'head':
      return typeof value.node === 'string' && HEAD_RUNS.includes(String(value.run))
    case 'alive':
    case 'gap':
      return true
    case 'opened':
      return isRunHead(value.head) && (value.follows === undefined || isPosition(value.follows))
    case 'outcome':
      return OUTCOMES.includes(String(value.outcome))
    default:
      return false
  }
}

const HEAD_RUNS = ['new', 'replace', 'same', 'stop']
const OUTCOMES = ['ended', 'lost', 'stopped', 'replaced', 'unshared', 'left', 'handed-over']

function isRunHead(value: unknown): value is RunHead {
  if (!isRecord(value) || typeof value.statusMessage !== 'string' || typeof value.idBefore !== 'string') return false
  return Array.isArray(value.headers) && value.headers.every((header) => Array.isArray(header) && header.length === 2)
}

function isPosition(value: unknown): value is Position {
  return isRecord(value) && Number.isSafeInteger(value.fence) && Number.isSafeInteger(value.seq)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
