/** What `import` gets: the same as `require`. */
export { listenOver, over, sendFile, serve, shareListener } from './node.js';
export type * from './node.js';
