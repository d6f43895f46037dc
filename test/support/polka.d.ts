// The part of Polka that the tests use: it has no types of its own.
declare module 'polka' {
  import type { RequestListener } from 'node:http'

  interface Polka {
    use(path: string, ...handlers: unknown[]): Polka
    readonly handler: RequestListener
  }
  function polka(): Polka
  export = polka
}
