/** What `import` gets: the same as `require`. */
export { listenOver, over } from './node.js';
export type * from './node.js';
