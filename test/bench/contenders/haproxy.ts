// haproxy, one thread, without delays, and with the client's leaving passed on.

import { backlog, type Place } from './place.ts'

export function haproxyConfig(place: Place): string {
  return config(place, `127.0.0.1:${place.upstreamPorts[0]}`)
}

export function haproxyTlsConfig(place: Place): string {
  return config(place, `127.0.0.1:${place.tlsPort} ssl verify none alpn http/1.1`)
}

export function haproxyHttp2Config(place: Place): string {
  return config(place, `127.0.0.1:${place.tlsPort} ssl verify none alpn h2`)
}

function config({ port }: Place, upstream: string): string {
  return `
global
  nbthread 1
defaults
  mode http
  option http-no-delay
  option abortonclose
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend clients
  bind 127.0.0.1:${port} backlog ${backlog}
  default_backend backend
backend backend
  server upstream ${upstream}
`
}
