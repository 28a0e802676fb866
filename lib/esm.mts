/** What `import` gets: the same classes as `require`. */
export { CompletionPort } from './index.js';
export type * from './index.js';
