// Express 4 under its alias has no types of its own here; what the tests use of it is the same in both.
declare module 'express4' {
  import express from 'express'

  export = express
}
