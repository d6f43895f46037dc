// Server-Sent Events as the HTML Standard defines them, read one character after the other. Slow and plain on purpose:
// it is what the product's own parsing is judged by.

export interface DispatchedEvent {
  type: string
  data: string
  lastEventId: string
}

export interface Interpretation {
  events: DispatchedEvent[]
  /** The last event ID string at the end. */
  lastEventId: string
  /** The reconnection time, when the stream has set one. */
  retry: number | undefined
}

export function interpret(bytes: Buffer | string): Interpretation {
  // The decoder drops one byte order mark at the start, as the standard's "decode" does.
  const text = new TextDecoder('utf-8').decode(typeof bytes === 'string' ? Buffer.from(bytes) : bytes)
  const events: DispatchedEvent[] = []
  let retry: number | undefined
  let lastEventId = ''
  let data = ''
  let type = ''
  let idBuffer = ''

  const dispatch = (): void => {
    lastEventId = idBuffer
    if (data === '') {
      type = ''
      return
    }
    if (data.endsWith('\n')) data = data.slice(0, -1)
    events.push({ type: type === '' ? 'message' : type, data, lastEventId })
    data = ''
    type = ''
  }

  const processField = (name: string, value: string): void => {
    if (name === 'event') type = value
    else if (name === 'data') data += `${value}\n`
    else if (name === 'id') {
      if (!value.includes('\0')) idBuffer = value
    } else if (name === 'retry') {
      if (/^[0-9]+$/.test(value)) retry = Number.parseInt(value, 10)
    }
  }

  const processLine = (line: string): void => {
    if (line === '') return dispatch()
    if (line.startsWith(':')) return
    const colon = line.indexOf(':')
    if (colon === -1) return processField(line, '')
    const value = line.slice(colon + 1)
    processField(line.slice(0, colon), value.startsWith(' ') ? value.slice(1) : value)
  }

  // A line that the end of the stream cuts off is never processed, nor is an event without its blank line.
  let lineStart = 0
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at]
    if (character !== '\r' && character !== '\n') continue
    processLine(text.slice(lineStart, at))
    if (character === '\r' && text[at + 1] === '\n') at += 1
    lineStart = at + 1
  }
  return { events, lastEventId, retry }
}
