/** What `import` gets: the same as `require`. */
export {
  all,
  Channel,
  each,
  exclusive,
  MicroThread,
  parallelMap,
  race,
  scope,
  select,
  SharedChannel,
  sleep,
  spawn,
  wait,
  within,
} from './micro.js';
export type * from './micro.js';
