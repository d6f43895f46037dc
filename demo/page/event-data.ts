// Reads the answer to a fetch as events, of which only the data matters.

/** Resolves at a clean end, and rejects where the transfer breaks. */
export async function readData(body: ReadableStream<BufferSource>, onData: (data: string) => void): Promise<void> {
  let unread = ''
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const blocks = (unread + value).split('\n\n')
    unread = blocks.pop() ?? ''
    for (const block of blocks) {
      const data = /^data: (.*)/m.exec(block)?.[1]
      if (data !== undefined) onData(data)
    }
  }
}
