// Everything that `import ... from 'sse-proxy-middleware'` offers.

export type { DrainOptions, DrainResult } from './drain.ts'
export {
  AdmissionError,
  type AdmissionErrorCode,
  type CloseReason,
  ConfigError,
  SseProxyError,
  type SseProxyErrorCode,
  StreamError,
  type StreamErrorCode,
  UpstreamError,
  type UpstreamErrorCode,
} from './errors.ts'
export type { HookResult, SseStream, StreamEvent, TransformHook } from './events/event.ts'
export type {
  AttemptMessage,
  CloseMessage,
  EjectMessage,
  ErrorMessage,
  OpenMessage,
  RequestMessage,
  ResumeMessage,
  RetryMessage,
  StoreMessage,
} from './observe/channels.ts'
export type { HistogramBucket, HistogramSnapshot } from './observe/histogram.ts'
export type { ProxyStats, RefusalReason, SharedStats, StoreStats, UpstreamStats } from './observe/stats.ts'
export type {
  Collect,
  JsonSource,
  NdjsonSource,
  StreamFormat,
  TargetFormat,
  ToEvent,
} from './options/format-options.ts'
export type { KeepaliveOptions, LimitOptions, SseProxyOptions, TimeoutOptions } from './options/options.ts'
export type { ReplayOptions, ShareOptions, StreamGap } from './options/share-options.ts'
export type {
  BalanceCandidate,
  BalanceFunction,
  CommitAnswer,
  CommitFunction,
  HealthOptions,
  Http2Options,
  ResumeOptions,
  RetryOptions,
  StickyOptions,
  Target,
  Targets,
  WeightedTarget,
} from './options/upstream-options.ts'
export { type MemoryStoreOptions, memoryStore } from './share/memory-store.ts'
export type {
  Added,
  Addition,
  Claim,
  Doorbell,
  KeyState,
  Page,
  Position,
  ShareStore,
  StoredEntry,
} from './share-store.ts'
export { type SseProxy, sseProxy } from './sse-proxy.ts'
