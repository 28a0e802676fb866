/** What the sum server computes. */
import { defineTasks } from 'completion-port/cpu';
import sum from './sum-piscina.mjs';

export const { sumn } = defineTasks(import.meta.url, { sumn: sum });
