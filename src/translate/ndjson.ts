// `from: 'ndjson'`: lines of JSON become events, one each, whose data is the line as it came. Whole lines leave in the turn in
// which their end arrives; the start of a line is held, within a bound, until its end is here.

import type { IncomingMessage } from 'node:http'
import { ByteStore, joined } from '../bytes.ts'
import { StreamError } from '../errors.ts'
import { withoutMark } from '../events/bom.ts'
import type { ToEvent } from '../options/format-options.ts'
import { decodedBody } from '../stream/decode.ts'
import { type BodySink, headerOf, type UpstreamBody, type UpstreamResponse } from '../upstream-response.ts'
import { asType } from './as-type.ts'
import { madeEvents } from './made-events.ts'

const LF = 10
const NOTHING = Buffer.alloc(0)
const TYPE = /^\s*application\/(?:x-ndjson|jsonl|(json-seq)|stream\+json)\s*(?:;|$)/i

export interface LinesOptions {
  /** Absent where a line is an event as it is. */
  readonly toEvent: ToEvent | undefined
  /** A longer line is an error. */
  readonly lineBytes: number
}

/** A 200 of lines as an event stream; any other answer, and one in an unknown coding, as it is. */
export function linesAsEvents(
  response: UpstreamResponse,
  req: IncomingMessage,
  { toEvent, lineBytes }: LinesOptions,
): UpstreamResponse {
  const type = response.status === 200 ? TYPE.exec(headerOf(response, 'content-type') ?? '') : null
  const plain = type ? decodedBody(response) : undefined
  if (!plain) return response
  const body = new LineBody(plain, {
    lineBytes,
    hasSeparators: type?.[1] !== undefined,
    isDelimited: response.delimited,
    toEvents: toEvent && ((line) => madeEvents(line, toEvent, req)),
  })
  return { ...asType(response, 'text/event-stream'), body }
}

interface LineBodyOptions {
  readonly lineBytes: number
  /** Whether a record separator stands before each line (RFC 7464). */
  readonly hasSeparators: boolean
  /** Whether an end of the body is surely its end. */
  readonly isDelimited: boolean
  /** The events of one line; absent where its bytes are one. @throws what breaks the stream off */
  readonly toEvents: ((line: string) => string | Promise<string>) | undefined
}

/** Lines come in as a sink's data, events go out as a body's. */
class LineBody implements UpstreamBody, BodySink {
  readonly #lines: UpstreamBody
  readonly #options: LineBodyOptions
  // Undefined before `start`, and when nothing more comes.
  #sink: BodySink | undefined
  // What one read has brought, a part for each HTTP chunk, until it is done.
  #parts: Buffer[] | undefined
  // The start of a line whose end has not come.
  readonly #held = new ByteStore()
  // Whether the first line has not come: it may begin with a byte order mark.
  #atStart = true
  // Lines that wait for their turn while `toEvents` is pending, at most what two reads have brought.
  #waiting: readonly string[] = []
  // Which of them is the next.
  #at = 0
  #isPending = false
  // Backpressure of the consumer.
  #isPaused = false
  // How the body ended; told when no line waits any more.
  #outcome: 'complete' | Error | undefined

  constructor(lines: UpstreamBody, options: LineBodyOptions) {
    this.#lines = lines
    this.#options = options
  }

  get hasBegun(): boolean | undefined {
    return this.#lines.hasBegun
  }

  get isWithApp(): boolean {
    return this.#isPending
  }

  start(sink: BodySink): void {
    this.#sink = sink
    this.#lines.start(this)
  }

  pause(): void {
    this.#isPaused = true
    this.#lines.pause()
  }

  unpause(): void {
    this.#isPaused = false
    if (!this.#isPending) this.#lines.unpause()
  }

  destroy(why?: 'given-up' | 'silent'): void {
    this.#sink = undefined
    this.#parts = undefined
    this.#waiting = []
    this.#lines.destroy(why)
  }

  judge(isWhole: boolean): void {
    this.#lines.judge?.(isWhole)
  }

  /** The fast lane brings the data of many HTTP chunks at once; the chunks themselves are of no use. */
  onChunks(read: Buffer): readonly Buffer[] {
    return [read]
  }

  onData(chunk: Buffer): void {
    if (this.#parts) return void this.#parts.push(chunk)
    this.#parts = [chunk]
    // After the read that brought it, and still in its turn: what came together is looked at once.
    process.nextTick(readDone, this)
  }

  /** For the tick alone. */
  onReadDone(): void {
    const parts = this.#parts
    this.#parts = undefined
    if (parts && this.#outcome === undefined) this.#read(joined(parts))
  }

  #read(chunk: Buffer): void {
    const bytes = this.#options.hasSeparators ? withoutSeparators(chunk) : chunk
    const end = bytes.lastIndexOf(LF) + 1
    if (end > 0) this.#take(this.#withHeld(bytes.subarray(0, end)))
    // Resets `idleMs`.
    else this.#sink?.onData(NOTHING)
    if (end < bytes.length) this.#held.add(bytes.subarray(end))
    if (this.#held.length > this.#options.lineBytes) this.#overflow()
  }

  #withHeld(bytes: Buffer): Buffer {
    if (this.#held.length === 0) return bytes
    this.#held.add(bytes)
    return this.#held.take()
  }

  onEnd(): void {
    this.onReadDone()
    const last = this.#held.take()
    if (this.#outcome !== undefined) return
    if (!isBlank(last)) {
      if (!this.#options.isDelimited) return this.onBroken(new Error('cut in the middle of a line'))
      this.#take(last)
    }
    this.#end('complete')
  }

  onBroken(cause: Error): void {
    this.onReadDone()
    if (this.#outcome === undefined) this.#end(cause)
  }

  /** Whole lines. */
  #take(bytes: Buffer): void {
    const { lineBytes, toEvents } = this.#options
    const all = this.#atStart ? withoutMark(bytes) : bytes
    this.#atStart = false
    const tooLong = all.length > lineBytes ? longLineIn(all, lineBytes) : -1
    const lines = tooLong === -1 ? all : all.subarray(0, tooLong)
    if (!toEvents) {
      this.#sink?.onData(eventsOf(lines))
    } else {
      this.#waiting = this.#waiting.slice(this.#at).concat(linesOf(lines.toString('utf8')))
      this.#at = 0
      if (!this.#isPending) this.#makeEvents()
    }
    if (tooLong !== -1) this.#overflow()
  }

  /** Makes events of what waits, up to a promise; what it has made by then leaves at once. */
  #makeEvents(): void {
    const { toEvents } = this.#options
    let made = ''
    try {
      while (toEvents && !this.#isPending && this.#at < this.#waiting.length) {
        const events = toEvents(this.#waiting[this.#at++] ?? '')
        if (typeof events === 'string') made += events
        else this.#await(events)
      }
    } catch (error) {
      this.#fail(error)
    }
    if (!this.#isPending) this.#waiting = []
    this.#sink?.onData(Buffer.from(made))
    this.#tellOutcome()
  }

  #await(events: Promise<string>): void {
    this.#isPending = true
    this.#lines.pause()
    events.then(
      (text) => this.#goOn(text),
      (error) => {
        this.#isPending = false
        this.#waiting = []
        this.#fail(error)
        this.#tellOutcome()
      },
    )
  }

  #goOn(made: string): void {
    this.#isPending = false
    if (made !== '') this.#sink?.onData(Buffer.from(made))
    this.#makeEvents()
    if (this.#sink && !this.#isPending && !this.#isPaused) this.#lines.unpause()
  }

  #overflow(): void {
    this.#fail(new StreamError('ERR_SSE_PROXY_EVENT_TOO_LARGE'))
    this.#tellOutcome()
  }

  /** The upstream is given up; what came before the failure still leaves. */
  #fail(error: unknown): void {
    this.#lines.destroy()
    this.#held.take()
    this.#outcome = error instanceof Error ? error : new Error('a line could not be taken', { cause: error })
  }

  #end(outcome: 'complete' | Error): void {
    this.#outcome = outcome
    this.#tellOutcome()
  }

  #tellOutcome(): void {
    if (this.#outcome === undefined || this.#isPending) return
    const sink = this.#sink
    this.#sink = undefined
    if (this.#outcome === 'complete') sink?.onEnd()
    else sink?.onBroken(this.#outcome)
  }
}

// One function for all: a closure would be made for every read.
function readDone(body: LineBody): void {
  body.onReadDone()
}

/** RFC 7464: a record separator begins a text; an empty line in its place says as much. */
function withoutSeparators(bytes: Buffer): Buffer {
  return bytes.includes(RECORD_SEPARATOR)
    ? Buffer.from(bytes.toString('latin1').replaceAll(RECORD_SEPARATOR, '\n'), 'latin1')
    : bytes
}

const RECORD_SEPARATOR = '\x1e'

/** Where the first line begins that is longer than this; -1 where none is. */
function longLineIn(bytes: Buffer, lineBytes: number): number {
  for (let from = 0; from < bytes.length; ) {
    const end = bytes.indexOf(LF, from)
    if ((end === -1 ? bytes.length : end) - from > lineBytes) return from
    if (end === -1) break
    from = end + 1
  }
  return -1
}

/** Each line as an event, in bytes: latin1 is one character a byte, whatever the text is. */
function eventsOf(bytes: Buffer): Buffer {
  const text = withoutCr(bytes.toString('latin1'))
  const lines = hasBlankLine(text) ? linesOf(text).join('\n') : text.slice(0, text.endsWith('\n') ? -1 : undefined)
  return lines === '' ? NOTHING : Buffer.from(`data: ${lines.replaceAll('\n', '\n\ndata: ')}\n\n`, 'latin1')
}

/** The lines that are not empty. */
function linesOf(text: string): string[] {
  return withoutCr(text)
    .split('\n')
    .filter((line) => /[^ \t]/.test(line))
}

/** A CR in a line is white space of JSON, and would end the field. */
function withoutCr(text: string): string {
  return text.includes('\r') ? text.replaceAll('\r\n', '\n').replaceAll('\r', ' ') : text
}

/** Whether a line may be empty: one that begins with white space may have nothing else. */
function hasBlankLine(text: string): boolean {
  return /^[\n \t]/.test(text) || text.includes('\n\n') || text.includes('\n ') || text.includes('\n\t')
}

function isBlank(bytes: Buffer): boolean {
  return !/[^ \t\r]/.test(bytes.toString('latin1'))
}
