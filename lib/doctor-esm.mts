/** What `import` gets: the same as `require`. */
export { diagnose } from './doctor.js';
export type * from './doctor.js';
