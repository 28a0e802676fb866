/** What `import` gets: the same as `require`. */
export {
  adoptServer,
  adoptSocket,
  detach,
  listenOver,
  over,
  sendFile,
  serve,
  shareListener,
} from './node.js';
export type * from './node.js';
