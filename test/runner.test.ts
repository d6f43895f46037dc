// What the runner of the test files says of files that pass, fail, hang or go away, and what it leaves behind.
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type Lane, runFiles } from './support/runner/run-files.ts'
import { lineOf, summary } from './support/runner/summary.ts'
import type { Outcome } from './support/runner/test-process.ts'
import { until } from './support/waiting.ts'

const start = `import { describe, test } from 'node:test'\n`
const exits = `test('exits', () => new Promise(() => setTimeout(() => process.exit(0), 100)))`

test('passed, failed and skipped tests are counted and named, each with why', async (t) => {
  const [outcome] = await outcomesOf(t, {
    'mixed.test.ts': `${start}
      test('holds', () => {})
      test('breaks', () => { throw new Error('what broke') })
      test('waits for a browser', { skip: 'there is none' }, () => {})
      test('is to be written', { todo: true })
      describe('of a suite', () => {
        test('holds too', () => {})
        test('breaks too', async (t) => {
          await t.test('inside', () => { throw new Error('deep down') })
        })
      })`,
  })

  assert.equal(outcome?.passed, 2)
  assert.deepEqual(
    outcome?.failed.map(({ name, error }) => [name, error.split('\n')[0]]),
    [
      ['breaks', 'Error: what broke'],
      ['of a suite > breaks too > inside', 'Error: deep down'],
      ['of a suite > breaks too', 'a test inside it failed'],
    ],
  )
  assert.deepEqual(outcome?.skipped, [
    { kind: 'skipped', name: 'waits for a browser', reason: 'there is none' },
    { kind: 'skipped', name: 'is to be written', reason: 'still to do' },
  ])
})

test('an error names the line of the source, not of what it was compiled to, where it failed a test and where it was printed', async (t) => {
  const [outcome] = await outcomesOf(t, {
    'lines.test.ts': `${start}\n\ntest('breaks', () => {\n  console.error(new Error('there'))\n  throw new Error('here') })`,
  })

  assert.match(outcome?.failed[0]?.error ?? '', /lines\.test\.ts:6:9/)
  assert.match(outcome?.output ?? '', /lines\.test\.ts:5:17/)
})

for (const [symptom, { body, name, error }] of Object.entries({
  'a test that never comes back fails, with its name': {
    body: `
      test('holds', () => {})
      test('hangs', () => new Promise(() => setInterval(() => {}, 1000)))`,
    name: 'hangs',
    error: /^it was not through after 3 s$/,
  },
  'a file that exits before its tests are through has failed': {
    body: exits,
    name: 'exits',
    error: /^its process ended with 0$/,
  },
  'a process that is killed has failed': {
    body: `test('dies', () => new Promise(() => setTimeout(() => process.kill(process.pid, 'SIGKILL'), 100)))`,
    name: 'dies',
    error: /^its process ended with SIGKILL$/,
  },
  'a process that says of itself that it failed has failed': {
    body: `
      test('holds', () => {})
      process.once('exit', () => { process.exitCode = 3 })`,
    name: 'one.test.ts',
    error: /^its process ended with 3$/,
  },
  'a suite whose hook fails has failed': {
    body: `
      import { after } from 'node:test'
      describe('a suite', () => {
        after(() => { throw new Error('not closed') })
        test('holds', () => {})
      })`,
    name: 'a suite',
    error: /^Error: not closed/,
  },
  'a file that cannot be loaded has failed': {
    body: `throw new Error('not loaded')`,
    name: 'it could not be loaded',
    error: /^Error: not loaded/,
  },
})) {
  test(symptom, async (t) => {
    const [outcome] = await outcomesOf(t, { 'one.test.ts': start + body })

    const failure = outcome?.failed[0]
    assert.match(failure?.error ?? '', error)
    assert.equal(failure?.name, name)
  })
}

test('what a test file has started ends with it', async (t) => {
  const [outcome] = await outcomesOf(t, {
    'starts.test.ts': `${start}
      import { spawn } from 'node:child_process'
      test('leaves a process', () => {
        const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' })
        child.unref()
        console.log('pid', child.pid)
      })`,
  })

  const pid = Number(/pid (\d+)/.exec(outcome?.output ?? '')?.[1])
  assert.ok(pid > 0)
  await until(() => !isAlive(pid), 'the process to end')
})

test('a file finds its neighbours where it was written', async (t) => {
  const [outcome] = await outcomesOf(t, {
    'neighbours.test.ts': `${start}
      import { readFileSync } from 'node:fs'
      test('reads itself', () => void readFileSync(new URL('neighbours.test.ts', import.meta.url)))`,
  })

  assert.deepEqual([outcome?.passed, outcome?.failed], [1, []])
})

test('the processes that tests start are there in compiled form as well', async (t) => {
  const helper = 'test/support/processes/helper'
  const [outcome] = await outcomesOf(t, {
    [`${helper}.ts`]: `process.send?.('here' satisfies string)`,
    'forks.test.ts': `${start}
      import { fork } from 'node:child_process'
      import { once } from 'node:events'
      test('forks', async () => console.log(await once(fork(process.env.TEST_COMPILED + '/${helper}.mjs'), 'message')))`,
  })

  assert.match(outcome?.output ?? '', /'here'/)
})

/** A test that is through when so many run at once, itself among them, or did before. */
const meeting = (count: number): string => `${start}
  import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
  import { setTimeout } from 'node:timers/promises'
  const here = (name) => new URL(name, import.meta.url)
  test('meets others', async () => {
    writeFileSync(here('running/' + process.pid), '')
    while (readdirSync(here('running/')).length < ${count} && !existsSync(here('met'))) await setTimeout(10)
    writeFileSync(here('met'), '')
    // Time for one too many to show itself.
    await setTimeout(200)
    console.log('together', readdirSync(here('running/')).length)
    rmSync(here('running/' + process.pid))
  })`

test('as many files as are allowed run at once, and no more', async (t) => {
  const names = ['a', 'b', 'c', 'd', 'e'].map((name) => `${name}.test.ts`)

  const outcomes = await outcomesOf(t, Object.fromEntries(names.map((name) => [name, meeting(2)])), 30_000)

  const together = outcomes.map(({ output }) => Number(/together (\d+)/.exec(output)?.[1]))
  assert.deepEqual(
    outcomes.map(({ file, passed }) => [file, passed]).sort(),
    names.map((name) => [name, 1]),
  )
  assert.ok(
    together.every((count) => count <= 2),
    `${together} at once`,
  )
})

test('lanes run side by side, and who is through with one helps with the others', async (t) => {
  const names = ['a', 'b', 'c', 'd', 'e'].map((name) => `${name}.test.ts`)
  const folder = await folderWith(t, Object.fromEntries(names.map((name) => [name, meeting(3)])))
  const lanes = [
    { processes: alone(names.slice(0, 1)), atOnce: 2 },
    { processes: alone(names.slice(1)), atOnce: 1 },
  ]

  const outcomes = await runFiles({ root: folder, lanes, oneProcessMs: 30_000 })

  assert.deepEqual(
    outcomes.map(({ file, passed }) => [file, passed]).sort(),
    names.map((name) => [name, 1]),
  )
})

test('what fails beside other files is run again alone, and named in the end where it passes then', async (t) => {
  const outcomes = await outcomesOf(t, {
    'calm.test.ts': `${start}test('holds', () => {})`,
    'hasty.test.ts': `${start}
      import { existsSync, writeFileSync } from 'node:fs'
      test('is in time', () => {
        const marker = new URL('ran-once', import.meta.url)
        if (existsSync(marker)) return
        writeFileSync(marker, '')
        throw new Error('late')
      })`,
    'wrong.test.ts': `${start}test('breaks', () => { throw new Error('always') })`,
  })

  const lines = summary(outcomes, 1000).split('\n')
  assert.deepEqual(lines.slice(1, 7), [
    'Failed:',
    '  wrong.test.ts: breaks',
    '',
    'Failed beside other files, and passed alone:',
    '  hasty.test.ts: is in time',
    '',
  ])
  assert.equal(lines.at(-1), '2 passed, 1 failed')
})

test('files that share a process run one after the other, and each has its own tests', async (t) => {
  const folder = await folderWith(t, {
    'a.test.ts': `${start}
      import { setTimeout } from 'node:timers/promises'
      test('takes its time', async () => {
        await setTimeout(50)
        globalThis.isThrough = process.pid
      })`,
    'b.test.ts': `${start}
      const before = globalThis.isThrough
      test('begins when the other is through', () => { if (before !== process.pid) throw new Error('at once') })
      test('has what is defined below it', () => void new Below())
      class Below {}`,
    'c.test.ts': `${start}test('breaks', () => { throw new Error('always') })`,
  })

  const outcomes = await runFiles({ root: folder, lanes: [inOneProcess('a', 'b', 'c')], oneProcessMs: 3000 })

  assert.deepEqual(
    outcomes.map(({ file, passed, failed }) => [file, passed, failed.map(({ name }) => name)]),
    [
      ['a.test.ts', 1, []],
      ['b.test.ts', 2, []],
      ['c.test.ts', 0, ['breaks']],
    ],
  )
  const [a, b] = outcomes
  assert.ok(a !== undefined && a.ms >= 50 && a.cpuMs > 0)
  assert.ok(b !== undefined && b.cpuMs > 0 && b.cpuMs < a.cpuMs)
})

test('a file with a clock of its own runs before those that may have left timers', async (t) => {
  const leaving = `${start}test('leaves a timer', () => { globalThis.left = setTimeout(() => {}, 60_000) })`
  const mocking = `${start}test('clears it', (t) => {
    t.mock.timers.enable()
    clearTimeout(globalThis.left)
  })`
  const folder = await folderWith(t, {
    'a.test.ts': `${leaving}\ntest.after(() => clearTimeout(globalThis.left))`,
    'b.test.ts': mocking,
  })

  const outcomes = await runFiles({ root: folder, lanes: [inOneProcess('a', 'b')], oneProcessMs: 3000 })

  assert.deepEqual(
    outcomes.map(({ file, passed, failed }) => [file, passed, failed]),
    [
      ['b.test.ts', 1, []],
      ['a.test.ts', 1, []],
    ],
  )
})

for (const [symptom, { body, error }] of Object.entries({
  'a file that cannot be loaded': { body: `throw new Error('not loaded')`, error: /^Error: not loaded/ },
  'a file that ends the process': {
    body: exits,
    error: /^its process ended with 0$/,
  },
  'a file that ends the process as it loads': { body: `process.exit(0)`, error: /^its process ended with 0$/ },
})) {
  test(`${symptom} keeps none from running that would share its process`, async (t) => {
    const folder = await folderWith(t, {
      'a.test.ts': `${start}test('holds', () => {})`,
      'b.test.ts': start + body,
      'c.test.ts': `${start}test('holds', () => {})`,
    })

    const outcomes = await runFiles({ root: folder, lanes: [inOneProcess('a', 'b', 'c')], oneProcessMs: 3000 })

    assert.deepEqual(
      outcomes.map(({ file, passed, failed }) => [file, passed, failed.length]),
      [
        ['a.test.ts', 1, 0],
        ['b.test.ts', 0, 1],
        ['c.test.ts', 1, 0],
      ],
    )
    assert.match(outcomes[1]?.failed[0]?.error ?? '', error)
  })
}

for (const [symptom, { body, error }] of Object.entries({
  'an error that nobody has caught': {
    body: `test('throws', (_t, done) => void setTimeout(() => { setTimeout(done); throw new Error('late') }))`,
    error: /"Error: late"/,
  },
  'a process that does not end': {
    body: `test('leaves something behind', () => void setInterval(() => {}, 1000))`,
    error: /^it was not through after 2 s$/,
  },
})) {
  test(`${symptom} fails all files of the process, and then the one whose it is`, async (t) => {
    const folder = await folderWith(t, {
      'a.test.ts': start + body,
      'b.test.ts': `${start}test('holds', () => {})`,
    })
    const told: [string, number][] = []

    const outcomes = await runFiles({
      root: folder,
      lanes: [inOneProcess('a', 'b')],
      oneProcessMs: 2000,
      onOutcome: ({ file, failed }) => told.push([file, failed.length]),
    })

    assert.deepEqual(told, [
      ['a.test.ts', 1],
      ['b.test.ts', 1],
      ['a.test.ts', 1],
      ['b.test.ts', 0],
    ])
    assert.match(outcomes[0]?.failed[0]?.error ?? '', error)
    assert.deepEqual(outcomes[1]?.failed, [])
  })
}

test('nothing of the run is left in the repository', async (t) => {
  const folder = await folderWith(t, { 'a.test.ts': `${start}test('holds', () => {})` })

  await run(folder, ['a.test.ts'])

  assert.deepEqual(await readdir(join(folder, 'test', 'dist')), [])
})

test('promises are followed to their tests only where those stand in suites, or a file that has failed runs again', async (t) => {
  const counting = (around: string): string => `import { ${around} } from 'node:test'
    import { executionAsyncId } from 'node:async_hooks'
    ${around}('counts', async () => {
      const ids = new Set()
      for (let i = 0; i < 10; i += 1) {
        await Promise.resolve()
        ids.add(executionAsyncId())
      }
      console.log('promises', ids.size)
    })`
  const folder = await folderWith(t, {
    'plain.test.ts': counting('test'),
    'suite.test.ts': counting('describe'),
    'failing.test.ts': `${counting('test')}\ntest('breaks', () => { throw new Error('always') })`,
  })
  const printed: string[] = []

  await runFiles({
    root: folder,
    lanes: [{ processes: alone(['plain.test.ts', 'suite.test.ts', 'failing.test.ts']), atOnce: 1 }],
    oneProcessMs: 3000,
    onOutcome: ({ output }) => printed.push(/promises (\d+)/.exec(output)?.[1] ?? output),
  })

  assert.deepEqual(printed, ['1', '10', '1', '10'])
})

test('an error that nobody has caught fails the file, and is told', async (t) => {
  const [outcome] = await outcomesOf(t, {
    'late.test.ts': `${start}test('throws', (_t, done) => void setTimeout(() => { setTimeout(done); throw new Error('late') }))`,
  })

  assert.deepEqual(
    outcome?.failed.map(({ name, error }) => [name, /"Error: late"/.test(error)]),
    [['late.test.ts', true]],
  )
})

test('the end says what failed, what was skipped and why, and how many there were on a line of its own', () => {
  const outcomes: Outcome[] = [
    {
      file: 'test/b.test.ts',
      ms: 2000,
      cpuMs: 1000,
      passed: 3,
      failed: [],
      skipped: [{ name: 'x', reason: 'no zstd' }],
      output: '',
    },
    {
      file: 'test/a.test.ts',
      ms: 1000,
      cpuMs: 400,
      passed: 2,
      failed: [{ name: 'y', error: 'Error: z' }],
      skipped: [],
      output: '',
    },
  ]

  const lines = summary(outcomes, 2500).split('\n')

  assert.deepEqual(lines, [
    '',
    'Failed:',
    '  test/a.test.ts: y',
    '',
    'Skipped:',
    '  test/b.test.ts: x: no zstd',
    '',
    '2 files in 2.5 s',
    '5 passed, 1 failed, 1 skipped',
  ])
})

test('where nothing failed or was skipped the end says so in one line', () => {
  const outcome: Outcome = {
    file: 'test/a.test.ts',
    ms: 1000,
    cpuMs: 400,
    passed: 2,
    failed: [],
    skipped: [],
    output: 'chatter',
  }

  assert.equal(lineOf(outcome), '✔ test/a.test.ts (2 tests, 1.0 s, 0.4 s of CPU)')
  assert.deepEqual(summary([outcome], 1000).split('\n'), ['', '1 file in 1.0 s', '2 passed, 0 failed'])
})

test('the line of a file that failed has its errors and what it printed under it', () => {
  const failed = [{ name: 'breaks', error: 'Error: no\n  at here' }]

  const text = lineOf({
    file: 'test/a.test.ts',
    ms: 1000,
    cpuMs: 400,
    passed: 1,
    failed,
    skipped: [],
    output: 'chatter\n',
  })

  assert.deepEqual(text.split('\n'), [
    '✖ test/a.test.ts (2 tests, 1.0 s, 0.4 s of CPU)',
    '  ✖ breaks',
    '    Error: no',
    '      at here',
    '  it printed',
    '    chatter',
  ])
})

async function outcomesOf(t: TestContext, files: Record<string, string>, oneProcessMs?: number): Promise<Outcome[]> {
  const names = Object.keys(files).filter((name) => name.endsWith('.test.ts'))
  return await run(await folderWith(t, files), names, oneProcessMs)
}

function run(root: string, files: string[], oneProcessMs = 3000): Promise<Outcome[]> {
  return runFiles({ root, lanes: [{ processes: alone(files), atOnce: 2 }], oneProcessMs })
}

function inOneProcess(...names: string[]): Lane {
  return { processes: [names.map((name) => `${name}.test.ts`)], atOnce: 1 }
}

function alone(files: readonly string[]): string[][] {
  return files.map((file) => [file])
}

async function folderWith(t: TestContext, files: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'runner-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  await mkdir(join(folder, 'running'))
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true })
    await writeFile(join(folder, name), text)
  }
  return folder
}

/** A process that has ended may stay in the table until its parent asks. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
