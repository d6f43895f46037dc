// What is left in memory when everything has been collected that can be.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')

export const collectGarbage = runInNewContext('gc') as () => void

export function heapUsed(): number {
  collectGarbage()
  return process.memoryUsage().heapUsed
}
