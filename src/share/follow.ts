// How one client gets into a shared stream: where in it the client begins, under which head, and by which kind of follower.

import createDebug from 'debug'
import { Cursor } from '../events/cursor.ts'
import type { ResolvedShare } from '../options/resolve-share.ts'
import { createClientPipeline } from '../stream/client-pipeline.ts'
import type { EventFlow } from '../stream/event-flow.ts'
import type { Session } from '../stream/session.ts'
import { DirectFollower } from './direct-follower.ts'
import type { EventLog } from './event-log.ts'
import type { FollowedStream } from './followed-stream.ts'
import { shareableHeaders, withGap } from './follower-headers.ts'
import { tellGap } from './gap.ts'
import { HookedFollower } from './hooked-follower.ts'
import type { Followable, SharingRequest } from './opening.ts'
import { mayHaveBody } from './share-methods.ts'

const debug = createDebug('sse-proxy:stream')

/** Lets a client follow a stream; the leader gets all of the upstream's head, the others what describes the content. */
export function follow(
  request: SharingRequest,
  { shared, head }: Followable,
  isLeader: boolean,
  { replay, transform, onGap }: Pick<ResolvedShare, 'replay' | 'transform' | 'onGap'>,
): void {
  const { log } = shared
  // How long one that is over is kept is not the age of its events.
  if (!shared.isOver) log.trim(performance.now())
  const { lastEventId: requestedId } = request
  // Its leader is there before the first event and has missed none, and of one that is over nothing else will come.
  const initial = isLeader || shared.isOver ? 'all' : replay.initial
  const { position, hasGap } = startingPoint(log, requestedId, initial)
  // Read before the start: what the app is told of in the meantime may end the stream.
  const resumedAfterId = log.idBefore
  const { cookie: _, ...shareable } = head
  const shown = isLeader ? head : { ...shareable, headers: shareableHeaders(head.headers, request.req) }
  // It has been opened with another's.
  if (!isLeader && mayHaveBody(request.req.method)) request.req.resume()
  const session = request.session()
  debug('%s follows the shared stream %s', session.handle.id, shared.id)
  session.start(
    hasGap ? { ...shown, headers: withGap(shown.headers, resumedAfterId) } : shown,
    flowOf(shared, session, position, transform),
  )
  // One that is over may have passed to its end by now.
  if (hasGap && (shared.isOver || !session.isOver)) {
    tellGap(session, onGap, { requestedId, resumedAfterId })
  }
}

/**
 * Where a client begins that has this id, '' for none. With a gap there are events it has missed that are not kept, and
 * it gets all that is.
 */
export function startingPoint(
  log: Pick<EventLog, 'first' | 'positionAfter' | 'beforeLast'>,
  requestedId: string,
  initial: number | 'all',
): { readonly position: number; readonly hasGap: boolean } {
  if (requestedId === '') {
    if (initial === 'all') return { position: log.first, hasGap: log.first > 0 }
    return { position: log.beforeLast(initial), hasGap: false }
  }
  const position = log.positionAfter(requestedId)
  return { position: position ?? log.first, hasGap: position === undefined }
}

/** The events from this position on, through the hooks that each client has of its own. */
function flowOf(
  shared: FollowedStream,
  session: Session,
  position: number,
  hooks: ResolvedShare['transform'],
): EventFlow {
  if (hooks.length === 0) return new DirectFollower(shared, session, position)
  return createClientPipeline(session, {
    body: new HookedFollower(shared, session, position),
    // A follower is told how the stream ended.
    delimited: true,
    cursor: new Cursor(session.context.lastEventId),
    hooks,
    isShared: true,
  })
}
