// Signing in: a cookie with the user's name and a signature. Enough for a demo; a real app has passwords as well.
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { CookieOptions, NextFunction, Request, Response } from 'express'

const name = 'demo_user'
const secret = randomBytes(32)
const cookie: CookieOptions = { httpOnly: true, sameSite: 'lax', path: '/' }

export function signIn(req: Request, res: Response): void {
  const user: unknown = req.body?.user
  if (typeof user !== 'string' || !/^[\p{L}\d]{1,20}$/u.test(user)) {
    res.status(400).json({ error: 'a name has 1 to 20 letters or digits' })
    return
  }
  res.cookie(name, `${user}.${sign(user)}`, cookie).json({ user })
}

export function signOut(_req: Request, res: Response): void {
  res.clearCookie(name, cookie).json({ user: null })
}

/** Lets only those pass who are signed in, and tells the backends who it is; the cookie itself stays here. */
export function requireUser(req: Request, res: Response, next: NextFunction): void {
  const user = userOf(req)
  if (user === undefined) {
    res.status(401).json({ error: 'sign in first' })
    return
  }
  delete req.headers.cookie
  req.headers['x-user'] = encodeURIComponent(user)
  res.locals.user = user
  next()
}

export function userOf(req: Request): string | undefined {
  const pairs = (req.headers.cookie ?? '').split('; ').map((pair) => pair.split('='))
  const [user = '', signature = ''] = decode(pairs.find(([key]) => key === name)?.[1] ?? '').split('.')
  const [given, right] = [Buffer.from(signature), Buffer.from(sign(user))]
  return user !== '' && given.length === right.length && timingSafeEqual(given, right) ? user : undefined
}

function decode(value: string): string {
  try {
    return decodeURIComponent(value)
  } catch {
    return ''
  }
}

function sign(user: string): string {
  return createHmac('sha256', secret).update(user).digest('base64url')
}
