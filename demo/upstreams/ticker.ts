// Two backends that count together, ten times a second, from one log: whoever has seen event 812 is given 813 next by
// either of them. A real pair would share a broker; what matters is that ids mean the same in both.
import { Backend, type OpenStream } from './backend.ts'

const everyMs = 100
const logged = 600

export class Ticker {
  readonly backends: readonly [Backend, Backend]
  readonly #log: { n: number; text: string }[] = []
  // Those that have been cut off in the middle of an event get nothing after it.
  readonly #broken = new WeakSet<OpenStream>()
  #n = 0
  #timer: NodeJS.Timeout | undefined
  #silentUntil = 0

  constructor(name = 'ticker') {
    const serve = (name: string) => new Backend(name, (req, res, backend) => this.#follow(backend.open(req, res)))
    this.backends = [serve(`${name}-a`), serve(`${name}-b`)]
  }

  get n(): number {
    return this.#n
  }

  get isSilent(): boolean {
    return Date.now() < this.#silentUntil
  }

  async start(): Promise<void> {
    await Promise.all(this.backends.map((backend) => backend.start()))
    this.#timer = setInterval(() => this.#tick(), everyMs)
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await Promise.all(this.backends.map((backend) => backend.stop()))
  }

  /** Nothing happens, so nothing is said: connections stay open and carry no byte. */
  goSilent(ms: number): void {
    this.#silentUntil = Date.now() + ms
  }

  /** Every stream breaks off with half of the next event on its way. */
  breakMidEvent(): void {
    for (const stream of this.#streams()) {
      stream.res.write(`id: ${this.#n + 1}\ndata: {"n":`)
      this.#broken.add(stream)
      // A reset at once would overtake the bytes.
      setTimeout(() => stream.req.socket.resetAndDestroy(), 60)
    }
  }

  #tick(): void {
    if (this.isSilent) return
    this.#n += 1
    const text = `id: ${this.#n}\ndata: {"n":${this.#n}}\n\n`
    this.#log.push({ n: this.#n, text })
    if (this.#log.length > logged) this.#log.shift()
    for (const stream of this.#streams()) stream.res.write(text)
  }

  #follow({ req, res }: OpenStream): void {
    const seen = Number(req.headers['last-event-id'] ?? this.#n)
    for (const { n, text } of this.#log) if (n > seen) res.write(text)
  }

  *#streams(): Iterable<OpenStream> {
    for (const backend of this.backends) {
      for (const stream of backend.streams) if (!this.#broken.has(stream)) yield stream
    }
  }
}
