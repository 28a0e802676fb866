/** What `import` gets: the same as `require`. */
export { defineStage, frames, Pipeline } from './stages.js';
export type * from './stages.js';
