/** The same thing measured on both routes. */
export interface Both<T> {
  readonly proxied: T
  readonly plain: T
}
