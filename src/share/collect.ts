// An ordinary answer as a whole, so that all who waited for it can have it. Only one whose head says how long it is:
// what has no end in sight would have them wait, and take memory, for nothing.

import { headerOf, type UpstreamBody, type UpstreamResponse } from '../upstream-response.ts'

/** The length of an answer's body as its head tells it; undefined where the head does not. */
export function lengthOf(response: UpstreamResponse): number | undefined {
  // RFC 9110, section 15.3.5: it ends with its head.
  if (response.status === 204) return 0
  const length = headerOf(response, 'content-length') ?? ''
  return /^\d+$/.test(length) ? Number(length) : undefined
}

/** All of a body; rejects when it breaks, or is longer than its head has said. */
export function collect(body: UpstreamBody, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    body.start({
      onData(chunk) {
        bytes += chunk.length
        chunks.push(chunk)
        if (bytes <= maxBytes) return
        body.destroy()
        reject(new Error(`the body is longer than the ${maxBytes} bytes of its Content-Length`))
      },
      onEnd: () => resolve(Buffer.concat(chunks)),
      onBroken: reject,
    })
  })
}

/** A body out of memory, which cannot break and is there at once; it may be made many times of the same bytes. */
export function bodyOf(bytes: Buffer): UpstreamBody {
  return {
    start(sink) {
      if (bytes.length > 0) sink.onData(bytes)
      sink.onEnd()
    },
    pause() {},
    unpause() {},
    destroy() {},
  }
}
