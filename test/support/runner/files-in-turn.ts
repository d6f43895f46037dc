// What a test process runs: the test files that its arguments name, in this order. A test that has the path of a file as
// its name stands before those of the file, so that it can be told whose they are.
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'

for (const path of process.argv.slice(2)) {
  // It runs while the file loads: a test that ran meanwhile would not have what is defined below it.
  const { hasBegun, endWith } = opened(path)
  await hasBegun
  const loading = import(pathToFileURL(path).href)
  endWith(loading)
  // A file that cannot be loaded does not stand in the way of those behind it.
  await loading.catch(() => {})
}

interface OpenTest {
  hasBegun: Promise<void>
  endWith: (ending: Promise<void>) => void
}

function opened(name: string): OpenTest {
  let endWith: OpenTest['endWith'] = () => {}
  const ending = new Promise<void>((resolve) => {
    endWith = resolve
  })
  const hasBegun = new Promise<void>((begin) => {
    test(name, () => {
      begin()
      return ending
    })
  })
  return { hasBegun, endWith }
}
