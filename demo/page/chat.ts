// The chat: a POST whose answer streams, read with fetch, given up by aborting it.
import { byId } from './elements.ts'
import { readData } from './event-data.ts'

/** Asks; resolves when the answer is over or given up. */
export async function complete(
  url: string,
  signal: AbortSignal,
  onToken: (text: string) => void = () => {},
): Promise<'done' | 'stopped' | `status ${number}` | 'broken'> {
  try {
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'demo', stream: true, messages: [{ role: 'user', content: 'What is a stream?' }] }),
      signal,
    })
    if (!response.ok || !response.body) return `status ${response.status}`
    await readTokens(response.body, onToken)
    return 'done'
  } catch {
    return signal.aborted ? 'stopped' : 'broken'
  }
}

/** Reads the tokens of an answer; resolves at its end. */
export async function readTokens(body: ReadableStream<BufferSource>, onToken: (text: string) => void): Promise<void> {
  await readData(body, (data) => {
    const content = data === '[DONE]' ? undefined : JSON.parse(data).choices[0]?.delta.content
    if (content) onToken(content)
  })
}

export class Chat {
  readonly #ask = byId('chat-ask', HTMLButtonElement)
  readonly #stop = byId('chat-stop', HTMLButtonElement)
  readonly #answer = byId('chat-answer', HTMLElement)
  readonly #shown = byId('chat-shown', HTMLOutputElement)
  readonly #made = byId('chat-made', HTMLOutputElement)
  #controller: AbortController | undefined
  #tokens = 0
  // The model counts for everybody; the page shows what it made since the question.
  #madeBefore = 0
  #madeTotal = 0

  constructor(ensureUser: () => Promise<void>) {
    this.#ask.addEventListener('click', async () => {
      await ensureUser()
      await this.ask()
    })
    this.#stop.addEventListener('click', () => this.stop())
  }

  get tokens(): number {
    return this.#tokens
  }

  async ask(): Promise<void> {
    this.stop()
    const controller = new AbortController()
    this.#controller = controller
    this.#tokens = 0
    this.#madeBefore = this.#madeTotal
    this.#answer.textContent = ''
    this.#shown.value = '0'
    this.#ask.disabled = true
    this.#stop.disabled = false
    const outcome = await complete('/chat', controller.signal, (text) => {
      this.#tokens += 1
      this.#shown.value = String(this.#tokens)
      this.#answer.append(text)
      this.#answer.scrollTop = this.#answer.scrollHeight
    })
    if (outcome !== 'done' && outcome !== 'stopped') this.#answer.append(`(${outcome})`)
    this.#ask.disabled = false
    this.#stop.disabled = true
  }

  stop(): void {
    this.#controller?.abort()
  }

  showMade(total: number): void {
    this.#madeTotal = total
    this.#made.value = String(total - this.#madeBefore)
  }
}
