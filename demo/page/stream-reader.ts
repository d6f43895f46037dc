// Reads an event stream with fetch by the rules of EventSource: comes back after an end or a break with the last id,
// waits as long as `retry:` says, and gives up for good on any status but 200. Unlike EventSource it shows everything
// that comes, comments and unfinished events too, which is what this page is about.

export type ReaderState = 'connecting' | 'live' | 'waiting' | 'given-up' | 'closed'

export interface ReaderEvents {
  onState(state: ReaderState, status: number): void
  /** A block with its blank line, as it came. */
  onBlock(text: string, fields: ReadonlyMap<string, string>): void
  /** The response is over; `tail` is what came after the last blank line. */
  onEnd(kind: 'complete' | 'broken', tail: string): void
}

// What Chromium waits when the stream has not said otherwise.
const defaultRetryMs = 3000

export class StreamReader {
  readonly #url: string
  readonly #events: ReaderEvents
  #controller = new AbortController()
  #retryMs = defaultRetryMs
  #timer = 0
  lastEventId = ''

  constructor(url: string, events: ReaderEvents) {
    this.#url = url
    this.#events = events
  }

  open(): void {
    this.close()
    this.#controller = new AbortController()
    void this.#connect(this.#controller.signal)
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#controller.abort()
    this.#events.onState('closed', 0)
  }

  async #connect(signal: AbortSignal): Promise<void> {
    this.#events.onState('connecting', 0)
    const headers: Record<string, string> = { accept: 'text/event-stream' }
    if (this.lastEventId) headers['last-event-id'] = this.lastEventId
    try {
      const response = await fetch(this.#url, { headers, signal, cache: 'no-store' })
      if (response.status !== 200 || !response.headers.get('content-type')?.startsWith('text/event-stream')) {
        await response.body?.cancel()
        this.#events.onState('given-up', response.status)
        return
      }
      this.#events.onState('live', 200)
      await this.#read(response)
    } catch {
      // The app itself is away: an EventSource tries again.
    }
    if (signal.aborted) return
    this.#events.onState('waiting', 0)
    this.#timer = window.setTimeout(() => void this.#connect(signal), this.#retryMs)
  }

  async #read(response: Response): Promise<void> {
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
    let unread = ''
    try {
      for (;;) {
        const { done, value } = (await reader?.read()) ?? { done: true, value: undefined }
        if (done) break
        unread = this.#takeBlocks(unread + value)
      }
      this.#events.onEnd('complete', unread)
    } catch (error) {
      if (!(error instanceof DOMException && error.name === 'AbortError')) this.#events.onEnd('broken', unread)
      throw error
    }
  }

  /** The backends of the demo write LF only. */
  #takeBlocks(text: string): string {
    const blocks = text.split('\n\n')
    const rest = blocks.pop() ?? ''
    for (const block of blocks) {
      const fields = new Map(block.split('\n').map(splitField))
      this.lastEventId = fields.get('id') ?? this.lastEventId
      if (fields.has('retry')) this.#retryMs = Number(fields.get('retry'))
      this.#events.onBlock(block, fields)
    }
    return rest
  }
}

function splitField(line: string): [name: string, value: string] {
  const colon = line.indexOf(':')
  return colon === -1 ? [line, ''] : [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, '')]
}
