// The package ships no types of its own: it takes Express and gives back the same thing, made fit for node:http2.
declare module 'http2-express' {
  import type express from 'express'

  function http2Express(from: typeof express): express.Express
  export = http2Express
}
