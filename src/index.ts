// Everything that `import ... from 'sse-proxy-middleware'` offers.

export {
  ConfigError,
  SseProxyError,
  type SseProxyErrorCode,
  StreamError,
  type StreamErrorCode,
  UpstreamError,
  type UpstreamErrorCode,
} from './errors.ts'
export type {
  CloseReason,
  HookResult,
  KeepaliveOptions,
  LimitOptions,
  SseProxyOptions,
  SseStream,
  StreamEvent,
  Target,
  TimeoutOptions,
  TransformHook,
} from './options.ts'
export { type SseProxy, sseProxy } from './sse-proxy.ts'
