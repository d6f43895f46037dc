// What a server has answered, checked: a proxy in between, an older server or a client with settings of its own may answer
// anything. Each check returns the value or throws, which rejects the call of the store.

import type { Position } from '../share-store.ts'

/** @throws Error where it is no whole number */
export function numberOf(reply: unknown): number {
  const number = /^-?\d{1,16}$/.test(textOf(reply)) ? Number(textOf(reply)) : Number.NaN
  return Number.isSafeInteger(number) ? number : unknownReply()
}

/** @throws Error where it is neither a string nor bytes */
export function textOf(reply: unknown): string {
  if (Buffer.isBuffer(reply)) return reply.toString('latin1')
  return typeof reply === 'string' || typeof reply === 'number' ? String(reply) : unknownReply()
}

/** The same, undefined for nil. */
export function textOrNone(reply: unknown): string | undefined {
  return reply === null || reply === undefined ? undefined : textOf(reply)
}

/** @throws Error where it is no list, or one of another length */
export function listOf(reply: unknown, length?: number): readonly unknown[] {
  if (!Array.isArray(reply) || (length !== undefined && reply.length !== length)) return unknownReply()
  return reply
}

/** @throws Error where it is no id of an entry */
export function positionOf(text: string | undefined): Position {
  const [, fence, seq] = /^(\d{1,16})-(\d{1,16})$/.exec(text ?? '') ?? []
  const position = { fence: Number(fence), seq: Number(seq) }
  return Number.isSafeInteger(position.fence) && Number.isSafeInteger(position.seq) ? position : unknownReply()
}

export function idOf({ fence, seq }: Position): string {
  return `${fence}-${seq}`
}

export function unknownReply(): never {
  throw new Error('Redis: the answer is not what was asked for')
}
