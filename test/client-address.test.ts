import assert from 'node:assert/strict'
import { SocketAddress } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { subnetOf } from '../src/client-address.ts'

const sameClient: [name: string, one: string, other: string, bits: number][] = [
  ['addresses of one /64', '2001:db8:1:2:3:4:5:6', '2001:db8:1:2:ffff::1', 64],
  ['two spellings of an address', '2001:DB8:0:0:0:0:0:1', '2001:db8::1', 128],
  ['addresses of one /56', '2001:db8:1:2ff::1', '2001:db8:1:200::2', 56],
  ['an IPv4 address and its IPv6 form', '192.0.2.7', '::ffff:192.0.2.7', 64],
  ['an IPv4 address and its IPv6 form in hexadecimal', '192.0.2.7', '::ffff:c000:207', 64],
]

for (const [name, one, other, bits] of sameClient) {
  test(`${name} are one client`, () => {
    assert.equal(subnetOf(one, bits), subnetOf(other, bits))
  })
}

const differentClients: [name: string, one: string, other: string, bits: number][] = [
  ['neighbouring /64', '2001:db8:1:2::1', '2001:db8:1:3::1', 64],
  ['neighbouring /56', '2001:db8:1:2ff::1', '2001:db8:1:3ff::1', 56],
  ['addresses that differ in the last bit, where all of them count', '2001:db8::1', '2001:db8::2', 128],
  ['IPv4 addresses written as IPv6', '::ffff:192.0.2.7', '::ffff:192.0.2.8', 64],
  ['IPv4 addresses', '192.0.2.7', '192.0.2.8', 64],
  ['local addresses of two interfaces', 'fe80::1%eth0', 'fe80::1%eth1', 64],
]

for (const [name, one, other, bits] of differentClients) {
  test(`${name} are two clients`, () => {
    assert.notEqual(subnetOf(one, bits), subnetOf(other, bits))
  })
}

test('what is no address is taken as it is', () => {
  for (const text of ['', 'unix', '[::1]', '1:2', '999.1.1.1']) assert.equal(subnetOf(text, 64), text)
})

test('the first bits decide and no others, however an address is written', () => {
  const groups = fc.array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 })

  fc.assert(
    fc.property(groups, fc.integer({ min: 1, max: 128 }), fc.nat(127), (address, bits, flipped) => {
      fc.pre(address.slice(0, 5).some((group) => group !== 0))
      const other = address.map((group, i) => (i === flipped >> 4 ? group ^ (0x8000 >> (flipped & 15)) : group))
      fc.pre(other.slice(0, 5).some((group) => group !== 0))

      assert.equal(subnetOf(long(address), bits), subnetOf(short(address), bits))
      assert.equal(subnetOf(long(address), bits) === subnetOf(short(other), bits), flipped >= bits)
    }),
  )
})

function long(groups: readonly number[]): string {
  return groups.map((group) => group.toString(16).padStart(4, '0').toUpperCase()).join(':')
}

function short(groups: readonly number[]): string {
  return new SocketAddress({ family: 'ipv6', address: long(groups) }).address
}
