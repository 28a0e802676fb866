// Tasks in a pool of threads.
import { applyWith, cpu, pool } from 'completion-port/cpu';
import { sumn } from './sum.tasks.mjs';

const threads = pool({ threads: 2 });
console.log(await applyWith(threads, () => cpu(sumn, 1000)));
await threads.close();
