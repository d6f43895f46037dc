import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  callable,
  callables,
  flag,
  group,
  integer,
  integers,
  isObject,
  MAX_MS,
  oneOf,
  range,
  text,
  unexpected,
} from '../../src/options/check.ts'

function refuses(check: () => unknown, message: string): void {
  assert.throws(check, { name: 'ConfigError', code: 'ERR_SSE_PROXY_OPTION', message })
  assert.throws(check, TypeError)
}

describe('unexpected: the path, what was expected, what was given and of which type', () => {
  for (const [got, shown] of [
    [undefined, 'undefined'],
    [null, 'null'],
    ['5s', "'5s' (string)"],
    ['', "'' (string)"],
    ["it's", '"it\'s" (string)'],
    [5, '5 (number)'],
    [-0, '-0 (number)'],
    [Number.NaN, 'NaN (number)'],
    [5n, '5n (bigint)'],
    [true, 'true (boolean)'],
    [Symbol('s'), 'Symbol(s) (symbol)'],
    [{ a: 1 }, '{ a: 1 } (object)'],
    [[1, 2], '[ 1, 2 ] (array)'],
    [() => 1, '[Function (anonymous)] (function)'],
    [{ a: { b: 1 } }, '{ a: [Object] } (object)'],
    ['x'.repeat(70), `'${'x'.repeat(60)}'... 10 more characters (string)`],
  ] as const) {
    test(shown, () => {
      refuses(() => unexpected('a.b', 'something else', got), `a.b: expected something else, got ${shown}`)
    })
  }
})

describe('integer', () => {
  for (const value of [1, 2, 10]) {
    test(`${value} is one from 1 to 10`, () => {
      assert.equal(integer('n', value, 1, 10), value)
    })
  }

  for (const value of [0, 11, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '5', undefined, null, 5n, true, [5]]) {
    test(`${String(value)} (${typeof value}) is none`, () => {
      assert.throws(() => integer('n', value, 1, 10), /^ConfigError: n: expected an integer from 1 to 10, got /)
    })
  }

  test('says what else could be given', () => {
    refuses(() => integer('n', 0, 1, 10, ' or false'), 'n: expected an integer from 1 to 10 or false, got 0 (number)')
  })

  test('the longest time is what a timer takes', () => {
    assert.equal(MAX_MS, 2 ** 31 - 1)
  })
})

test('integers: each that is given, and the defaults of the others', () => {
  const defaults = { one: 1, two: 2 }

  assert.deepEqual(integers('g', { two: 5 }, defaults, 0, 9), { one: 1, two: 5 })
  assert.deepEqual(integers('g', { one: undefined }, defaults, 0, 9), defaults)
  refuses(() => integers('g', { two: 10 }, defaults, 0, 9), 'g.two: expected an integer from 0 to 9, got 10 (number)')
})

test('flag: true and false and nothing that is like them', () => {
  assert.equal(flag('f', true), true)
  assert.equal(flag('f', false), false)
  for (const value of [0, 1, 'true', '', null, undefined]) {
    assert.throws(() => flag('f', value), /^ConfigError: f: expected true or false, got /)
  }
})

test('oneOf: one of the names, spelled as it is', () => {
  assert.equal(oneOf('o', 'b', ['a', 'b']), 'b')
  refuses(() => oneOf('o', 'B', ['a', 'b']), "o: expected 'a' or 'b', got 'B' (string)")
  refuses(() => oneOf('o', 1, ['a'], ' or a function'), "o: expected 'a' or a function, got 1 (number)")
  refuses(() => oneOf('o', 'constructor', ['a']), "o: expected 'a', got 'constructor' (string)")
})

test('text: a string of the form', () => {
  assert.equal(text('t', 'ab', /^a/, 'an a'), 'ab')
  refuses(() => text('t', 'b', /^a/, 'an a'), "t: expected an a, got 'b' (string)")
  refuses(() => text('t', ['a'], /^a/, 'an a'), "t: expected an a, got [ 'a' ] (array)")
})

test('callable: any function', () => {
  const given = () => 1

  assert.equal(callable('c', given), given)
  assert.equal(typeof callable('c', class {}), 'function')
  refuses(() => callable('c', {}), 'c: expected a function, got {} (object)')
  refuses(() => callable('c', 'x', 'a hook'), "c: expected a hook, got 'x' (string)")
})

test('callables: one function, several, or none, as a list that cannot be changed', () => {
  const [one, other] = [() => 1, () => 2]

  for (const [given, list] of [
    [undefined, []],
    [one, [one]],
    [
      [one, other],
      [one, other],
    ],
  ] as const) {
    assert.deepEqual(callables('c', given), list)
    assert.ok(Object.isFrozen(callables('c', given)))
  }
  refuses(() => callables('c', 'x'), "c: expected a function or an array of functions, got 'x' (string)")
  refuses(() => callables('c', [one, 5]), 'c[1]: expected a function, got 5 (number)')
})

test('range: a number of ms, or the least and the most', () => {
  assert.deepEqual(range('r', 5), [5, 5])
  assert.deepEqual(range('r', [0, 5]), [0, 5])
  refuses(() => range('r', -1), 'r: expected an integer from 0 to 2147483647 or [min, max], got -1 (number)')
  refuses(() => range('r', [5]), 'r: expected a number of ms or [min, max], got [ 5 ] (array)')
  refuses(() => range('r', [5, 4]), 'r[1]: expected an integer from 5 to 2147483647, got 4 (number)')
})

test('isObject: objects, and neither null nor arrays', () => {
  for (const value of [{}, Object.create(null), new URL('http://a')]) assert.ok(isObject(value))
  for (const value of [null, undefined, [], 'a', 1, () => 1]) assert.ok(!isObject(value))
})

describe('group', () => {
  test('an object with known keys, some or all or none', () => {
    for (const value of [{}, { attempts: 1 }, { attempts: 1, delayMs: undefined }]) {
      assert.equal(group('g', value, ['attempts', 'delayMs']), value)
    }
  })

  test('anything else is refused', () => {
    refuses(() => group('g', 5, ['a']), 'g: expected an object, got 5 (number)')
    refuses(() => group('g', [], ['a'], ' or false'), 'g: expected an object or false, got [] (array)')
    refuses(() => group('', null, ['a']), 'options: expected an object, got null')
  })

  for (const [key, known, hint] of [
    ['delayMS', ['attempts', 'delayMs'], ', did you mean delayMs?'],
    ['delay', ['attempts', 'delayMs'], ', did you mean delayMs?'],
    ['atempts', ['attempts', 'delayMs'], ', did you mean attempts?'],
    ['attempst', ['attempts', 'delayMs'], ', did you mean attempts?'],
    ['onDisconnected', ['onDisconnect', 'onEnd'], ', did you mean onDisconnect?'],
    ['KEEPALIVE', ['keepalive'], ', did you mean keepalive?'],
    ['foo', ['on', 'off'], '; known are on, off'],
    ['max', ['maxDelayMs', 'attempts'], ', did you mean maxDelayMs?'],
    ['wholly-different', ['attempts', 'delayMs'], '; known are attempts, delayMs'],
    ['constructor', ['attempts', 'delayMs'], '; known are attempts, delayMs'],
  ] as const) {
    test(`an unknown key, ${key}: ${hint.slice(2)}`, () => {
      refuses(() => group('g', { [key]: 1 }, known), `g.${key}: unknown option${hint}`)
    })
  }

  test('an unknown key of the options themselves has no path before it', () => {
    refuses(() => group('', { atempts: 1 }, ['attempts']), 'atempts: unknown option, did you mean attempts?')
  })

  test('a key that is undefined is not given, whatever it is', () => {
    assert.doesNotThrow(() => group('g', { attempts: undefined, whatever: undefined }, ['attempts']))
  })

  test('null is refused: it may have been meant as none', () => {
    refuses(
      () => group('g', { attempts: null }, ['attempts']),
      'g.attempts: expected a value, or undefined for the default, got null',
    )
  })

  test('of a long list of what is known it is told where it is', () => {
    const known = Array.from({ length: 30 }, (_, i) => `option-number-${i}`)

    refuses(
      () => group('g', { x: 1 }, known),
      'g.x: unknown option; demo/guides/options.md in the package has them all',
    )
  })
})
