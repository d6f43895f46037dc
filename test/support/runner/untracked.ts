// Loaded before a test file. Node's test runner follows each promise back to the test that made it, so that it can say whose an
// uncaught error is; a test that makes them by the million spends most of its time on that. Without it such an error still
// fails the file.
import hooks from 'node:async_hooks'

const { createHook } = hooks
const idle = { enable: () => idle, disable: () => idle }
hooks.createHook = () => idle
await import('node:test')
hooks.createHook = createHook
