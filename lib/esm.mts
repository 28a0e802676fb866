/** What `import` gets: the same class as `require`. */
export { CompletionPort } from './index.js';
export type * from './index.js';
