/**
 * What fuzzed stages do with documents: they answer them with their own bytes, in every way there is,
 * now or later, here or in another stage, with messages in between.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import { threadId } from 'node:worker_threads';
import { defineStage } from '../../dist/stages-esm.mjs';

const later = (time) => new Promise((resolve) => setTimeout(resolve, time));

export default ({ seed, directory }) => {
  let state = (seed ^ Math.imul(threadId, 0x27d4eb2f)) >>> 0 || 1;
  /** An integer from 0 to `end` - 1: xorshift. */
  const random = (end) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state = (state ^ (state << 5)) >>> 0;
    return state % end;
  };
  let files = 0;

  /** File operations fail at the memory limit, at once: others' answers are on their way. */
  async function patiently(work) {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (error.code !== 'ERR_MEMORY_LIMIT') throw error;
        await later(1);
      }
    }
  }

  async function bytesOf(document) {
    const parts = [];
    const lend = random(3) === 0;
    for await (const chunk of document.chunks({ size: 1 + random(9000), lend })) {
      parts.push(lend ? Buffer.from(chunk) : chunk);
    }
    return Buffer.concat(parts);
  }

  /** Open for reading, and without a name by the time it is sent. */
  async function fileWith(c, bytes) {
    const name = path.join(directory, `answer-${threadId}-${files++}`);
    const descriptor = openSync(name, 'w');
    writeSync(descriptor, bytes);
    closeSync(descriptor);
    return c.open(name);
  }

  async function answer(c) {
    const { documents } = c;
    if (random(8) === 0) await later(random(4));
    const parts = [];
    for (const document of documents) {
      const lent = document.bytes;
      parts.push(
        lent === undefined || random(3) === 0 ? await patiently(() => bytesOf(document)) : lent,
      );
    }
    const all = Buffer.concat(parts);
    const half = all.length >> 1;
    switch (random(6)) {
      case 0:
        return all.length > 0 ? c.reply(await fileWith(c, all)) : c.reply(all);
      case 1:
        if (documents.length > 1 || half === 0) return c.reply(all);
        return c.reply([all.subarray(0, half), await fileWith(c, all.subarray(half))]);
      case 2:
        return c.reply(documents.length > 1 ? parts : all);
      default:
        return c.reply(all);
    }
  }

  return defineStage({
    states: {
      work: {
        handedOff(c) {
          const kind = random(8);
          if (kind === 0) c.post(random(1000));
          if (kind === 1) return c.handOff(c.stage === 'work' ? 'other' : 'work');
          if (kind === 2) return later(random(3)).then(() => answer(c));
          return answer(c);
        },
        posted() {},
      },
    },
  });
};
