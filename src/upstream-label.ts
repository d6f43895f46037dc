// What an upstream is called: in stats, metrics and messages, and where two of a list are compared.

import type { HpmTarget } from './hpm.ts'

/** The address for people and metrics: no credentials and no query, which may hold some. */
export function upstreamLabel(target: HpmTarget | undefined): string {
  if (target === undefined) return ''
  if (typeof target === 'string' || target instanceof URL) {
    const { protocol, host, pathname } = new URL(target)
    return `${protocol}//${host}${pathname === '/' ? '' : pathname}`
  }
  if (target.socketPath) return `unix:${target.socketPath}`
  const [, name = 'localhost', ownPort] = /^(.*?)(?::(\d+))?$/.exec(target.hostname ?? target.host ?? 'localhost') ?? []
  const port = target.port ?? ownPort
  const path = target.pathname === '/' ? '' : (target.pathname ?? '').replace(/\?.*/s, '')
  return `${target.protocol ?? 'http:'}//${name}${port ? `:${port}` : ''}${path}`
}
