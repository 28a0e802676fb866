/** What `import` gets: the same as `require`. */
export { serve, shareListener } from './node.js';
export type * from './node.js';
