// Which versions of Node the package promises: no other than those that what it depends on promises, everywhere alike.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import semver from 'semver'
import { readme, section } from '../support/documents.ts'
import { root } from './packed.ts'

interface Locked {
  engines?: { node?: string }
  dev?: boolean
  devOptional?: boolean
  peer?: boolean
}

const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as { packages: Record<string, Locked> }
const engines = lock.packages['']?.engines?.node ?? ''

test('an installation with --engine-strict fails on no Node that the package promises', () => {
  const refusing = Object.entries(lock.packages).filter(
    ([, { dev, devOptional, peer, engines: theirs }]) =>
      !dev && !devOptional && !peer && theirs?.node && !semver.subset(engines, theirs.node),
  )

  assert.deepEqual(
    refusing.map(([path, { engines: theirs }]) => `${path} wants ${theirs?.node}`),
    [],
  )
})

test('the manifest and the lock file promise the same', () => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { engines: { node: string } }

  assert.equal(manifest.engines.node, engines)
})

test('the README names the versions from which on the package promises to work', () => {
  const [sentence = ''] = /^Node .*? are supported/m.exec(section(readme, 'Install')) ?? []
  const named = sentence.match(/\d+(?:\.\d+)*/g) ?? []

  assert.deepEqual(
    named.map((version) => semver.coerce(version)?.version),
    engines.split('||').map((range) => semver.minVersion(range)?.version),
  )
})
