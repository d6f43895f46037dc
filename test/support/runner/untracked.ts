// Loaded before a test file whose tests stand in no suite. Node's test runner follows each promise back to the test that made
// it, so that a test in a suite finds that, and so that it can say whose an uncaught error is; of what all tests compute that
// is a twelfth, and most of it where they make promises by the million. Without it such an error still fails the file.
import hooks from 'node:async_hooks'

const { createHook } = hooks
const idle = { enable: () => idle, disable: () => idle }
hooks.createHook = () => idle
await import('node:test')
hooks.createHook = createHook
