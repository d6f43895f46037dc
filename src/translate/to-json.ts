// `to: { format }` that says 'json': a stream's events are collected, within a bound, and leave as one answer when the stream
// has ended. Until then nothing has left, so that a stream that is lost is answered with a status.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { StreamEvent } from '../events/event.ts'
import { EventReader } from '../events/event-reader.ts'
import type { Collect, StreamFormat } from '../options/format-options.ts'
import { ClientWriter, type ResponseHead, type WriterListener } from '../stream/client-writer.ts'
import { asType } from './as-type.ts'

// What an event takes at least, as it came.
const EVENT_BYTES = 'data: \n\n'.length
const END_OF_EVENT = Buffer.from('\n\n')

export interface JsonWriterOptions {
  readonly fastLane: boolean
  /** Absent where the answer is the list of events. */
  readonly collect: Collect | undefined
  /** More than that is a failure of the stream. */
  readonly maxBytes: number
  /** Answers in place of this, where `collect` fails. */
  readonly refuse: (thrown: unknown) => void
}

/** Writes what is no event stream as it is. */
export class JsonWriter extends ClientWriter {
  readonly #req: IncomingMessage
  readonly #options: JsonWriterOptions
  // Set by `openStream`.
  #head: ResponseHead | undefined
  // Hears that more is collected than may be.
  #listener: WriterListener | undefined
  readonly #events: StreamEvent[] = []
  readonly #reader = new EventReader((event) => this.#keep(event))
  // What they take.
  #bytes = 0

  constructor(req: IncomingMessage, res: ServerResponse, options: JsonWriterOptions) {
    super(req, res, options.fastLane)
    this.#req = req
    this.#options = options
  }

  override get format(): StreamFormat {
    return 'json'
  }

  override get waitingBytes(): number {
    return this.#bytes + super.waitingBytes
  }

  override openStream(head: ResponseHead): void {
    this.#head = head
    this.watchConnection()
  }

  override watch(writeMs: number, listener: WriterListener): void {
    this.#listener = listener
    super.watch(writeMs, listener)
  }

  // Nothing leaves before the end.

  override flush(): void {
    if (!this.#head) super.flush()
  }

  override flushNow(): void {}

  override write(bytes: Buffer): boolean {
    if (!this.#head) return super.write(bytes)
    this.#reader.read(bytes)
    if (this.#bytes > this.#options.maxBytes) this.#listener?.onOverflow?.()
    return true
  }

  /** Comments and lone ids take no memory, and are not counted. */
  #keep(event: StreamEvent): void {
    const { data, event: type = '', id = '' } = event
    this.#events.push(event)
    this.#bytes += EVENT_BYTES + Buffer.byteLength(data) + type.length + id.length
  }

  override writeShared({ bytes }: { readonly bytes: Buffer }): boolean {
    return this.write(bytes)
  }

  override end(): void {
    const head = this.#head
    if (!head) return super.end()
    const { collect, refuse } = this.#options
    this.#reader.read(END_OF_EVENT)
    let json: Buffer
    try {
      json = jsonOf(collect ? collect(this.#events, this.#req) : this.#events)
    } catch (error) {
      return refuse(error)
    }
    this.#head = undefined
    this.#bytes = 0
    const { headers, ...rest } = asType(head, 'application/json')
    this.open({ ...rest, headers: [...headers, ['Content-Length', String(json.length)]] })
    super.write(json)
    super.end()
  }

  /** Nothing has left that could be broken off: the request is answered with an error. */
  override break(): void {
    if (!this.#head) super.break()
  }
}

function jsonOf(value: unknown): Buffer {
  const json: string | undefined = JSON.stringify(value)
  if (json === undefined) throw new TypeError(`to.collect: expected the function to return JSON, got ${typeof value}`)
  return Buffer.from(json)
}
