// What `require` gets of the entry for Redis: the same module that `import` gets.

import type * as Entry from './redis-store.ts' with { 'resolution-mode': 'import' }

export type * from './redis-store.ts' with { 'resolution-mode': 'import' }
export declare const redisStore: typeof Entry.redisStore

module.exports = require('./redis-store.js')
