// `to: { format }` that says 'ndjson': a stream's events leave as lines of JSON, one each, at once.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { EventReader } from '../events/event-reader.ts'
import type { StreamFormat } from '../options/format-options.ts'
import { ClientWriter, type ResponseHead } from '../stream/client-writer.ts'
import { asType } from './as-type.ts'

const END_OF_EVENT = Buffer.from('\n\n')
const EMPTY_LINE = Buffer.from('\n')
const COLON = 58
const LF = 10

/** Writes what is no event stream as it is. */
export class LinesWriter extends ClientWriter {
  // Undefined before `openStream`.
  #reader: EventReader | undefined
  // Lines of the write that is under way.
  #lines = ''

  constructor(req: IncomingMessage, res: ServerResponse, fastLane: boolean) {
    super(req, res, fastLane)
  }

  override get format(): StreamFormat {
    return 'ndjson'
  }

  override get takesChunks(): boolean {
    return false
  }

  override openStream(head: ResponseHead): void {
    this.#reader = new EventReader(({ data }) => {
      this.#lines += `${lineOf(data)}\n`
    })
    super.openStream(asType(head, 'application/x-ndjson'))
  }

  override write(bytes: Buffer): boolean {
    if (!this.#reader) return super.write(bytes)
    // Without a blank line the reader would hold it, and wait for what follows.
    if (!this.#reader.isInsideEvent && isComment(bytes)) return super.write(EMPTY_LINE)
    const lines = this.#linesOf(bytes)
    if (lines === '' && this.#reader.isInsideEvent) return true
    // A keepalive or an id that is no event is an empty line: to the client too it is a sign of life.
    return super.write(lines === '' ? EMPTY_LINE : Buffer.from(lines))
  }

  override writeShared({ bytes }: { readonly bytes: Buffer }): boolean {
    return this.write(bytes)
  }

  /** With an event that the upstream left unfinished at its end, as an event stream would have it. */
  override end(): void {
    const last = this.#linesOf(END_OF_EVENT)
    if (last !== '') super.write(Buffer.from(last))
    super.end()
  }

  #linesOf(bytes: Buffer): string {
    this.#reader?.read(bytes)
    const lines = this.#lines
    this.#lines = ''
    return lines
  }
}

/** Whether it is one line that says nothing. */
function isComment(bytes: Buffer): boolean {
  return bytes[0] === COLON && bytes.indexOf(LF) === bytes.length - 1
}

/** An event's data: as it is where that is JSON, as a JSON string otherwise. A line break of JSON is white space. */
function lineOf(data: string): string {
  try {
    JSON.parse(data)
    return data.replaceAll('\n', ' ')
  } catch {
    return JSON.stringify(data)
  }
}
