// An ordinary answer as a whole, and within a bound: for all who waited for it, or to see what it says.

import { ByteStore } from '../bytes.ts'
import { headerOf, type UpstreamBody, type UpstreamResponse } from '../upstream-response.ts'

/** The length of an answer's body as its head tells it; undefined where the head does not. */
export function lengthOf(response: UpstreamResponse): number | undefined {
  // RFC 9110, section 15.3.5: it ends with its head.
  if (response.status === 204) return 0
  const length = headerOf(response, 'content-length') ?? ''
  return /^\d+$/.test(length) ? Number(length) : undefined
}

/** All of a body; rejects when it breaks, or with a RangeError when it is longer than it may be. */
export function collect(body: UpstreamBody, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const bytes = new ByteStore()
    body.start({
      onData(chunk) {
        bytes.add(chunk)
        if (bytes.length <= maxBytes) return
        body.destroy()
        reject(new RangeError(`the body is longer than the ${maxBytes} bytes that it may have`))
      },
      onEnd: () => resolve(bytes.take()),
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
