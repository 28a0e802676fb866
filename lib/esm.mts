/** What `import` gets: the same classes as `require`. */
export { CompletionPort, defineStage, frames, Pipeline } from './index.js';
export type * from './index.js';
