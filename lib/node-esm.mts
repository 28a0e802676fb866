/** What `import` gets: the same as `require`. */
export { adoptServer, adoptSocket, detach, serve, shareListener } from './node.js';
export type * from './node.js';
