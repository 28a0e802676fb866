/** What `import` gets: the same as `require`. */
export { bullmq } from './bullmq.js';
export type * from './bullmq.js';
