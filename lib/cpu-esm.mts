/** What `import` gets: the same as `require`. */
export { applyWith, cpu, defineTasks, exclusive, inline, pool, setApply, transfer } from './cpu.js';
export type * from './cpu.js';
