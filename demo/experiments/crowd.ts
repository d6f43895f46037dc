// Many clients of one stream. They are opened here, as real HTTP clients, because a browser has six connections to a host.
import { Agent, type ClientRequest, get } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'

export interface CrowdResult {
  readonly asked: number
  /** Clients that got events. */
  readonly served: number
  /** Upstream connections that this took. */
  readonly upstream: number
}

// Who has got nothing by the time that nobody else has got anything for this long waits in vain.
const quietMs = 2000
// Long enough to be seen in the plots.
const stayMs = 1500

export async function gatherCrowd(url: string, size: number, countUpstream: () => number): Promise<CrowdResult> {
  const before = countUpstream()
  const agent = new Agent({ maxSockets: Number.POSITIVE_INFINITY })
  const requests: ClientRequest[] = []
  let served = 0
  await new Promise<void>((resolve) => {
    const quiet = setTimeout(resolve, quietMs)
    for (let i = 0; i < size; i++) {
      const request = get(url, { agent }, (res) => {
        res.on('error', () => {})
        res.once('data', () => {
          served += 1
          quiet.refresh()
          if (served < size) return
          clearTimeout(quiet)
          resolve()
        })
        res.resume()
      })
      request.on('error', () => {})
      requests.push(request)
    }
  })
  const upstream = countUpstream() - before
  await delay(stayMs)
  for (const request of requests) request.destroy()
  return { asked: size, served, upstream }
}
