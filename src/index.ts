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
  ResumeMessage,
  RetryMessage,
  StoreMessage,
} from './observe/channels.ts'
export type { HistogramBucket, HistogramSnapshot } from './observe/histogram.ts'
export type { ProxyStats, RefusalReason, SharedStats, StoreStats, UpstreamStats } from './observe/stats.ts'
export type {
  BalanceCandidate,
  BalanceFunction,
  Collect,
  CommitAnswer,
  CommitFunction,
  HealthOptions,
  Http2Options,
  JsonSource,
  KeepaliveOptions,
  LimitOptions,
  NdjsonSource,
  ReplayOptions,
  ResumeOptions,
  RetryOptions,
  ShareOptions,
  SseProxyOptions,
  StickyOptions,
  StreamFormat,
  StreamGap,
  Target,
  TargetFormat,
  Targets,
  TimeoutOptions,
  ToEvent,
  WeightedTarget,
} from './options/options.ts'
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
