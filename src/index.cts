// What `require` gets: the same module that `import` gets, through Node's own `require` of ES modules. The types are the
// same as well, so that an app may use both.

import type * as Entry from './index.ts' with { 'resolution-mode': 'import' }

export type * from './index.ts' with { 'resolution-mode': 'import' }

// Named one by one: a value cannot be exported by way of a type.
export declare const sseProxy: typeof Entry.sseProxy
export declare const memoryStore: typeof Entry.memoryStore
export declare const SseProxyError: typeof Entry.SseProxyError
export type SseProxyError = Entry.SseProxyError
export declare const ConfigError: typeof Entry.ConfigError
export type ConfigError = Entry.ConfigError
export declare const AdmissionError: typeof Entry.AdmissionError
export type AdmissionError = Entry.AdmissionError
export declare const UpstreamError: typeof Entry.UpstreamError
export type UpstreamError = Entry.UpstreamError
export declare const StreamError: typeof Entry.StreamError
export type StreamError = Entry.StreamError

module.exports = require('./index.js')
