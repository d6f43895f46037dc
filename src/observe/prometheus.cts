// What `require` gets of the entry for metrics: the same module that `import` gets.

import type * as Entry from './prometheus.ts' with { 'resolution-mode': 'import' }

export type * from './prometheus.ts' with { 'resolution-mode': 'import' }
export declare const prometheusMetrics: typeof Entry.prometheusMetrics

module.exports = require('./prometheus.js')
