// Where events end. [spec] A line ends with CR LF, LF or CR; a blank line ends an event. None of these bytes can be part
// of a longer UTF-8 sequence, so bytes are searched as they are.

const LF = 10
const CR = 13
/** Where lines end with LF. */
export const BLANK_LINE: Buffer = Buffer.from('\n\n')

/**
 * The index after the last blank line in `chunk`, 0 where there is none.
 * @param from where the first line, or the rest of it, begins
 * @param before the byte before that: after a line end the first line may be blank
 * @param afterCr whether an LF that comes first belongs to a CR that has ended an event
 */
export function lastBoundary(chunk: Buffer, from: number, before: number, afterCr: boolean): number {
  let end = chunk.lastIndexOf(BLANK_LINE) + BLANK_LINE.length
  if (end < BLANK_LINE.length) end = 0
  // Streams that end their lines with CR are rare: one native search shows that there is nothing to look for.
  if (chunk.indexOf(CR, end) !== -1) end = Math.max(end, lastCrBoundary(chunk, end))
  if (end > 0) return end
  if (before === LF && chunk[from] === LF) return from + 1
  if ((before === LF || before === CR) && chunk[from] === CR) return chunk[from + 1] === LF ? from + 2 : from + 1
  // The LF of a CR LF whose CR has ended an event already.
  return afterCr && chunk[0] === LF ? 1 : 0
}

/** The same for blank lines that end with CR or CR LF. */
function lastCrBoundary(chunk: Buffer, from: number): number {
  for (let i = chunk.lastIndexOf(CR); i > 0 && i >= from; i--) {
    if (chunk[i] === CR && (chunk[i - 1] === CR || chunk[i - 1] === LF)) return chunk[i + 1] === LF ? i + 2 : i + 1
  }
  return 0
}

/** The index after the blank lines at `from`, the start of a line, where lines end with LF. */
export function endOfBlankLines(bytes: Buffer, from: number): number {
  let at = from
  while (bytes[at] === LF) at++
  return at
}

/**
 * The index after the first blank line at or after `from`, the start of a line; -1 where there is none.
 * @param text a character for each byte
 */
export function nextBoundary(text: string, from: number, hasCr: boolean): number {
  if (!hasCr) {
    if (text.charCodeAt(from) === LF) return from + 1
    const at = text.indexOf('\n\n', from)
    return at === -1 ? -1 : at + 2
  }
  let lineStart = true
  for (let i = from; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code !== LF && code !== CR) {
      lineStart = false
      continue
    }
    if (code === CR && text.charCodeAt(i + 1) === LF) i++
    if (lineStart) return i + 1
    lineStart = true
  }
  return -1
}
