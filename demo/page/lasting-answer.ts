// An answer that outlives its readers: a POST asks for it, every page of the user's reads it with GET, from its start, and
// only a DELETE stops it.
import { readTokens } from './chat.ts'
import { byId } from './elements.ts'

const url = '/answers/v1/chat/completions'
export const question: RequestInit = {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ model: 'demo', stream: true, messages: [{ role: 'user', content: 'Do you last?' }] }),
}

export class LastingAnswer {
  readonly #ask = byId('lasting-ask', HTMLButtonElement)
  readonly #stop = byId('lasting-stop', HTMLButtonElement)
  readonly #answer = byId('lasting-answer', HTMLElement)
  readonly #state = byId('lasting-state', HTMLElement)
  // What is being read; aborting it is what a reload does.
  #reading: AbortController | undefined
  #tokens = 0

  constructor(ensureUser: () => Promise<void>) {
    this.#ask.addEventListener('click', async () => {
      await ensureUser()
      await this.ask()
    })
    this.#stop.addEventListener('click', () => void this.stop())
  }

  get text(): string {
    return this.#answer.textContent ?? ''
  }

  get tokens(): number {
    return this.#tokens
  }

  async ask(): Promise<void> {
    await this.#read(question)
  }

  /** Reads along where an answer is under way, or has been a minute ago. */
  async resume(): Promise<void> {
    await this.#read({ method: 'GET' })
  }

  /** Leaves; the answer goes on. */
  leave(): void {
    this.#reading?.abort()
  }

  /** Ends the answer, for whoever reads it. */
  async stop(): Promise<void> {
    await fetch(url, { method: 'DELETE' })
  }

  async #read(init: RequestInit): Promise<void> {
    this.leave()
    const reading = new AbortController()
    this.#reading = reading
    try {
      const response = await fetch(url, { ...init, signal: reading.signal })
      if (response.status !== 200 || !response.body) return this.#show(response.status === 204 ? '' : response.status)
      this.#tokens = 0
      this.#answer.textContent = ''
      this.#stop.disabled = false
      await readTokens(response.body, (text) => {
        this.#tokens += 1
        this.#answer.append(text)
        this.#answer.scrollTop = this.#answer.scrollHeight
        this.#show(`${this.#tokens} tokens, from the first on`)
      })
      this.#show(`${this.#tokens} tokens, and the end`)
    } catch {
      if (!reading.signal.aborted) this.#show('Broken off')
    }
    if (this.#reading === reading) this.#stop.disabled = true
  }

  #show(state: string | number): void {
    this.#state.textContent = state === '' ? 'Nothing asked yet.' : `${state}.`
  }
}
