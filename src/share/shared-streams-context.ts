// What `SharedStreams` and those that it is made of get from the proxy.

import type { Admission } from '../admission.ts'
import type { ResolvedOptions } from '../options/resolve-options.ts'
import type { ResolvedShare } from '../options/resolve-share.ts'
import type { Moves } from '../stream/moves.ts'
import type { SharedStreamObserver } from './shared-stream.ts'

/** What all shared streams of a proxy have in common. */
export interface SharedStreamsContext {
  readonly options: ResolvedOptions
  readonly share: ResolvedShare
  readonly observer: SharedStreamObserver
  readonly admission: Admission
  readonly moves: Moves | undefined
  nextId(): string
}
