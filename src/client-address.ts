// The IP address of a client, and the part of it that identifies one client.

import type { IncomingMessage } from 'node:http'
import { isIPv6 } from 'node:net'

const GROUPS = 8
const GROUP_BITS = 16
// The first six groups of an IPv4-mapped IPv6 address.
const MAPPED = '0:0:0:0:0:ffff'

/** The address as the app sees it: `req.ip`, which heeds Express' setting `trust proxy`, or the socket's. */
export function clientIp(req: IncomingMessage): string {
  const trusted: unknown = Reflect.get(req, 'ip')
  return typeof trusted === 'string' ? trusted : (req.socket.remoteAddress ?? '')
}

/**
 * The network of an address, since an IPv6 client can use any address of its network. IPv4 addresses count whole, IPv4-mapped
 * ones too.
 */
export function subnetOf(address: string, ipv6Bits: number): string {
  if (!isIPv6(address)) return address
  // The zone names an interface of this machine, and is no part of the address.
  const [plain = '', zone] = address.split('%')
  const groups = groupsOf(plain)
  if (groups.slice(0, 6).map(hex).join(':') === MAPPED) return groups.slice(6).flatMap(bytesOf).join('.')
  const kept = groups.map((group, i) => group & maskOf(ipv6Bits - i * GROUP_BITS))
  return `${kept.map(hex).join(':')}${zone === undefined ? '' : `%${zone}`}/${ipv6Bits}`
}

function groupsOf(address: string): number[] {
  const [head = [], tail] = address.split('::').map((part) => (part === '' ? [] : part.split(':').flatMap(groupOf)))
  if (!tail) return head
  return [...head, ...Array<number>(GROUPS - head.length - tail.length).fill(0), ...tail]
}

/** One group of 16 bits, or two where the last ones are written in IPv4 form. */
function groupOf(text: string): number[] {
  if (!text.includes('.')) return [Number.parseInt(text, 16)]
  const [a = 0, b = 0, c = 0, d = 0] = text.split('.').map(Number)
  return [a * 256 + b, c * 256 + d]
}

function bytesOf(group: number): number[] {
  return [group >> 8, group & 255]
}

function maskOf(bits: number): number {
  return (0xffff << (GROUP_BITS - Math.min(Math.max(bits, 0), GROUP_BITS))) & 0xffff
}

function hex(group: number): string {
  return group.toString(16)
}
