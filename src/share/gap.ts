// Tells the app of a gap: a client has missed events that are not to be had any more. What the app returns is an event for
// that client, since a page cannot read the headers of its stream.

import { isThenable } from '../app-callback.ts'
import type { ResolvedShare } from '../options/resolve-share.ts'
import type { StreamGap } from '../options/share-options.ts'
import type { Session } from '../stream/session.ts'

export function tellGap(session: Session, onGap: ResolvedShare['onGap'], gap: StreamGap): void {
  const { handle } = session
  session.tell('share.onGap', () => {
    const told = onGap?.(handle, gap)
    // Nothing that follows waits for a promise, so that what it brings would come too late.
    if (isThenable(told)) return told
    if (told) handle.send(told)
  })
}

/** One in the middle of a stream: where it goes on is not known. */
export function tellGapTo(session: Session): void {
  const { share } = session.context.options
  if (share) tellGap(session, share.onGap, { requestedId: session.handle.lastEventId, resumedAfterId: '' })
}
