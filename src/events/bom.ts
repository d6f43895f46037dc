// The byte order mark, in the one place that knows it. [spec] One at the start of a stream is no part of its first line;
// later ones are text. A client's stream may begin with an upstream's mark, and must not have it behind anything else.

const MARK = Buffer.from([0xef, 0xbb, 0xbf])
export const MARK_BYTES = 3

export function startsWithMark(bytes: Buffer): boolean {
  return bytes[0] === MARK[0] && bytes[1] === MARK[1] && bytes[2] === MARK[2]
}

export function withoutMark(bytes: Buffer): Buffer {
  return startsWithMark(bytes) ? bytes.subarray(MARK_BYTES) : bytes
}

/** Whether there are only the first bytes of a mark: what follows them tells whether they are one. */
export function mayBecomeMark(bytes: Buffer): boolean {
  return bytes.length < MARK_BYTES && MARK.subarray(0, bytes.length).equals(bytes)
}

/** Finds the mark at the start of an upstream's bytes, cut anywhere. */
export class MarkFinder {
  // How much of a mark has come while nothing else has; undefined after that.
  #passed: number | undefined = 0

  /** Whether a mark has come, and nothing behind it. */
  get isAlone(): boolean {
    return this.#passed === MARK_BYTES
  }

  /** Whether there is nothing to find any more. */
  get isDone(): boolean {
    return this.#passed === undefined
  }

  /** The index behind the mark where it ends in these bytes, 0 elsewhere. */
  endIn(bytes: Buffer): number {
    const before = this.#passed ?? MARK_BYTES
    let at = 0
    while (at < bytes.length && before + at < MARK_BYTES && bytes[at] === MARK[before + at]) at++
    this.#passed = at === bytes.length ? before + at : undefined
    return before + at === MARK_BYTES ? at : 0
  }
}
