// Events that tell by themselves whether one is lost, doubled or damaged: numbers from 1 on for each stream, each with
// a text that follows from its number. A stream that comes back with an id goes on after it.

const filling = 'zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich; '

/** Event number `n`, larger where `scale` is. */
export function numberedEvent(n: number, scale = 1): string {
  return `id: ${n}\ndata: ${n} ${filling.repeat((1 + (n % 3)) * scale)}\ndata: ${n}\n\n`
}

/** The number after the one that a client names. */
export function numberAfter(lastEventId: string | undefined): number {
  return Number(lastEventId ?? 0) + 1
}

export interface Tally {
  lost: number
  doubled: number
  damaged: number
}

/** Reads what a client gets, over any number of connections. */
export class NumberedReader {
  readonly tally: Tally = { lost: 0, doubled: 0, damaged: 0 }
  last = 0
  retryMs: number | undefined
  readonly #scale: number
  #unfinished = ''

  constructor(scale = 1) {
    this.#scale = scale
  }

  /** What came, decoded as UTF-8 without a cut in a character. */
  take(text: string): void {
    const blocks = (this.#unfinished + text).split('\n\n')
    this.#unfinished = blocks.pop() ?? ''
    for (const block of blocks) this.#takeBlock(`${block}\n\n`)
  }

  /** The connection is over, and what it left unfinished is not to be counted. */
  restart(): void {
    this.#unfinished = ''
  }

  #takeBlock(block: string): void {
    if (block.startsWith(':')) return
    const [, retry] = /^retry: (\d+)\n\n$/.exec(block) ?? []
    if (retry !== undefined) {
      this.retryMs = Number(retry)
      return
    }
    const n = Number(/^id: (\d+)\n/.exec(block)?.[1])
    if (block !== numberedEvent(n, this.#scale)) this.tally.damaged += 1
    else if (n <= this.last) this.tally.doubled += 1
    else this.tally.lost += n - this.last - 1
    if (n > this.last) this.last = n
  }
}
