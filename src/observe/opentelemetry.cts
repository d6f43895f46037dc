// What `require` gets of the entry for OpenTelemetry: the same module that `import` gets.

import type * as Entry from './opentelemetry.ts' with { 'resolution-mode': 'import' }

export type * from './opentelemetry.ts' with { 'resolution-mode': 'import' }
export declare const traceStreams: typeof Entry.traceStreams
export declare const streamMetrics: typeof Entry.streamMetrics

module.exports = require('./opentelemetry.js')
