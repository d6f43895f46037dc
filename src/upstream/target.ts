// Upstreams as http-proxy-middleware takes them, a URL or its parts, and what is derived from them.

import type { HpmOptions, HpmTarget } from '../hpm.ts'

type Target = HpmTarget | undefined

/** Whether it is reached over TLS. */
export function isSecure(target: Target): boolean {
  const protocol = typeof target === 'string' ? target : target?.protocol
  return /^(https|wss):?/i.test(protocol ?? '')
}

/**
 * A route mounted at /events sees `/?x=1` of `/events?x=1`; joined to a target's path that would be `/stream/?x=1`.
 * The query moves over to the target, so that it becomes `/stream?x=1`.
 */
export function queryOntoTarget(given: HpmTarget, options: HpmOptions, req: { url?: string | undefined }): HpmTarget {
  const { ignorePath, toProxy, prependPath } = options
  const target = withSearchInPath(given, options, req)
  const query = req.url?.startsWith('/?') ? req.url.slice(2) : ''
  if (query === '' || ignorePath || toProxy || prependPath === false) return target
  if (typeof target !== 'string' && !(target instanceof URL)) {
    if (!target.pathname || target.pathname === '/') return target
    req.url = '/'
    return { ...target, pathname: `${target.pathname}${target.pathname.includes('?') ? '&' : '?'}${query}` }
  }
  const parsed = typeof target === 'string' ? new URL(target) : target
  if (parsed.pathname === '/') return target
  req.url = '/'
  const url = new URL(parsed)
  url.search = url.search === '' ? query : `${url.search}&${query}`
  return url
}

/** http-proxy-middleware makes parts of an IPv6 address, and httpxy does not heed a query among parts: the path takes it along. */
function withSearchInPath(
  target: HpmTarget,
  { ignorePath, prependPath }: HpmOptions,
  req: { url?: string | undefined },
): HpmTarget {
  if (typeof target === 'string' || target instanceof URL || prependPath === false) return target
  const search: unknown = Reflect.get(target, 'search')
  if (typeof search !== 'string' || search === '') return target
  if (ignorePath) return { ...target, pathname: `${target.pathname ?? ''}${search}` }
  const [path, query] = (req.url ?? '/').split(/\?(.*)/s)
  req.url = query === undefined ? `${path}${search}` : `${path}${search}&${query}`
  return target
}

/** `prependPath: false`, which http-proxy-middleware 4.2 takes and does not heed. */
export function withoutPath(target: HpmTarget): HpmTarget {
  if (typeof target === 'string' || target instanceof URL) return new URL(target).origin
  const { pathname: _, ...rest } = target
  return rest
}

/** A target as a URL, which is all that httpxy can resolve a Location against; as it is where a socket has no address. */
export function asUrl(target: HpmTarget): HpmTarget {
  if (typeof target === 'string' || target instanceof URL || target.socketPath) return target
  const name = target.hostname ?? target.host ?? 'localhost'
  const host = /:.*:/.test(name) && !name.startsWith('[') ? `[${name}]` : name
  const url = `${target.protocol ?? 'http:'}//${host}${target.port ? `:${target.port}` : ''}`
  return URL.canParse(url) ? new URL(url) : target
}
