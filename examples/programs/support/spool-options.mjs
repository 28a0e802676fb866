/**
 * What the spool servers agree on: their options, and how they send a client away.
 */
import fs from 'node:fs';
import os from 'node:os';
import { duration, flag, option, size } from './arguments.mjs';
import { answers } from './describe.mjs';

/** How long a client that is sent away has for reading why, in milliseconds. */
export const FAREWELL = 2000;

function directory(text) {
  if (fs.statSync(text, { throwIfNoEntry: false })?.isDirectory()) return text;
  throw new Error('has to be a directory');
}

export const spoolOptions = {
  memory: option('SIZE', '1MiB', 'longest document that stays in memory', size),
  max: option('SIZE', '64MiB', 'longest document', size),
  spool: option('DIR', os.tmpdir(), 'where longer documents are kept meanwhile', directory),
  timeout: option('TIME', '30s', 'for a document that does not go on', duration),
  answer: option('WHAT', 'full', 'full (hash, lines, words), hash or length', (text) => {
    if (answers.includes(text)) return text;
    throw new Error(`has to be one of ${answers.join(', ')}`);
  }),
  stats: flag('print numbers as JSON at SIGUSR2 and at the end'),
};

/** The answer to a document that is longer than `max`. */
export function tooLarge(max) {
  return { error: 'ERR_DOCUMENT_TOO_LARGE', max };
}

/** The answer to a document that stalls. */
export const timedOut = { error: 'ETIMEDOUT' };

/** Which kind of stage receives. */
export const nativeOption = option('on|off', 'on', 'off: receive in JavaScript too', (text) => {
  if (text === 'on' || text === 'off') return text === 'on';
  throw new Error('has to be on or off');
});
