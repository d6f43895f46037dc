// What `require` gets of the entry for the tests of a store: the same module that `import` gets.

import type * as Entry from './store-tests.ts' with { 'resolution-mode': 'import' }

export type * from './store-tests.ts' with { 'resolution-mode': 'import' }
export declare const storeTests: typeof Entry.storeTests

module.exports = require('./store-tests.js')
