// How long a client that takes gzip, as every browser does, waits for the first event it can read.
import { get } from 'node:http'
import { createGunzip } from 'node:zlib'

/** In ms; null when there was none within the time. */
export function timeToFirstEvent(url: string, withinMs: number): Promise<number | null> {
  const since = performance.now()
  return new Promise((resolve) => {
    const request = get(url, { agent: false, headers: { 'accept-encoding': 'gzip' } }, (res) => {
      const body = res.headers['content-encoding'] === 'gzip' ? res.pipe(createGunzip()) : res
      body.on('error', () => {})
      res.on('error', () => {})
      body.once('data', () => done(Math.round(performance.now() - since)))
    })
    request.on('error', () => done(null))
    const timer = setTimeout(() => done(null), withinMs)

    function done(ms: number | null): void {
      clearTimeout(timer)
      resolve(ms)
      request.destroy()
    }
  })
}
