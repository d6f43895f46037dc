// The option `timeouts.idleMs`: an upstream that sends no byte for so long counts as lost. Absent where it is off.

import { Watchdog } from '../watchdog.ts'
import type { SilenceWatch } from './watched-body.ts'

export class IdleWatch implements SilenceWatch {
  readonly #idleMs: number
  // Undefined before `start`.
  #watchdog: Watchdog | undefined

  constructor(idleMs: number) {
    this.#idleMs = idleMs
  }

  start(onSilence: () => void): void {
    this.#watchdog = new Watchdog(this.#idleMs, () => onSilence())
  }

  onRead(): void {
    this.#watchdog?.reset()
  }

  onUnpaused(): void {
    this.#watchdog?.reset()
  }

  stop(): void {
    this.#watchdog?.stop()
  }
}
