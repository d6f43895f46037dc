// Waits for what comes sooner on a machine with time to spare.
import { setTimeout as delay } from 'node:timers/promises'

/** Resolves when it is so, or when the time is over. */
export async function patiently(isSo: () => boolean, ms: number): Promise<void> {
  const deadline = Date.now() + ms
  while (!isSo() && Date.now() < deadline) await delay(20)
}
