// haproxy, one thread, without delays, and with the client's leaving passed on.

import { backlog, type Place } from './place.ts'

export function haproxyConfig({ port, upstreamPorts }: Place): string {
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
  server upstream 127.0.0.1:${upstreamPorts[0]}
`
}
