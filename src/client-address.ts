// The address a client comes from, and what of it stands for one client.

import type { IncomingMessage } from 'node:http'
import { isIPv6 } from 'node:net'

const GROUPS = 8
const GROUP_BITS = 16
// What comes before an IPv4 address that is written as an IPv6 one.
const MAPPED = '0:0:0:0:0:ffff'

/** As the app sees it: Express' `trust proxy` counts where there is one. */
export function clientIp(req: IncomingMessage): string {
  const trusted: unknown = Reflect.get(req, 'ip')
  return typeof trusted === 'string' ? trusted : (req.socket.remoteAddress ?? '')
}

/**
 * The network that an address belongs to: an IPv6 client has a whole network to choose addresses from, so the address
 * says little. IPv4 addresses stay as they are, however they are written.
 */
export function subnetOf(address: string, ipv6Bits: number): string {
  if (!isIPv6(address)) return address
  // A zone is the name of this machine's own interface.
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

/** Two groups where it is the IPv4 form of the last ones. */
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
