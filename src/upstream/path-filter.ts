// Whether the option `pathFilter` lets a request in. http-proxy-middleware itself is asked: what it would route, it accepts.

import { type IncomingMessage, ServerResponse } from 'node:http'
import { createProxyMiddleware, type HpmOptions } from '../hpm.ts'

/** The function rejects where the app's own filter throws. */
export function createPathFilter({ pathFilter, logger }: HpmOptions): (req: IncomingMessage) => Promise<boolean> {
  const accepted = new Error('accepted')
  // What the app's function throws, http-proxy-middleware would take for a no.
  const failures = new WeakMap<IncomingMessage, unknown>()
  const probe = createProxyMiddleware({
    ...(pathFilter !== undefined && {
      pathFilter: typeof pathFilter !== 'function' ? pathFilter : noting(pathFilter, failures),
    }),
    ...(logger && { logger }),
    // Asked for requests that have passed the filter, and only for those.
    router: () => Promise.reject(accepted),
    ejectPlugins: true,
  })
  return (req) =>
    new Promise((resolve, reject) => {
      void probe(req, new ServerResponse(req), (outcome) => {
        if (failures.has(req)) reject(failures.get(req))
        else resolve(outcome === accepted)
      }).catch(reject)
    })
}

type FilterFunction = Extract<HpmOptions['pathFilter'], (...args: never[]) => unknown>

function noting(pathFilter: FilterFunction, failures: WeakMap<IncomingMessage, unknown>): FilterFunction {
  return (path, req) => {
    try {
      return pathFilter(path, req)
    } catch (error) {
      failures.set(req, error)
      return false
    }
  }
}
