/** Answers to documents of a native stage: parts of files, and those that end the connection. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { defineStage, frames } from '../../dist/stages.js';
import { codeOf, failureOf, temporaryDirectory, until } from '../support/harness';
import { Client, empty, newPipeline, type Pipeline } from '../support/stages';

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz';
/** Of the test that runs. */
let alphabet = '';

/** Answers with a part of the file, `header` before it: `{"header":…,"options":…}`; 'bye' is the last. */
const work = defineStage({
  states: {
    open: {
      async handedOff(c) {
        const text = c.document!.bytes!.toString();
        if (text === 'bye') return c.reply('farewell\n', { close: true });
        if (!text.startsWith('{')) return c.reply(`${text}\n`);
        const { header, options } = JSON.parse(text) as { header?: string; options?: object };
        const file = await c.open(alphabet);
        try {
          return c.reply(header === undefined ? file : [header, file], options);
        } catch (error) {
          await file.close();
          return c.reply(`${(error as NodeJS.ErrnoException).code}\n`);
        }
      },
    },
  },
});

function writeAlphabet(): void {
  alphabet = path.join(temporaryDirectory(), 'alphabet');
  writeFileSync(alphabet, ALPHABET);
}

async function setUp(): Promise<{ pipeline: Pipeline; port: number }> {
  writeAlphabet();
  const pipeline = newPipeline({
    receive: { native: frames({ delimiter: '\n' }), next: 'work' },
    work: { stage: work, threads: 0 },
  });
  const { port } = await pipeline.listen('receive', { host: '127.0.0.1', port: 0 });
  return { pipeline, port };
}

async function ask(port: number, document: object, answer: string): Promise<void> {
  const client = new Client(port);
  client.write(`${JSON.stringify(document)}\nnext\n`);
  const all = `${answer}next\n`;
  await until(() => client.size >= all.length);
  expect(client.text).toBe(all);
  client.socket.end();
}

test('a part of a file, with or without a header', async () => {
  const { port } = await setUp();
  await ask(port, {}, ALPHABET);
  await ask(port, { options: { position: 3, length: 4 } }, 'defg');
  await ask(port, { options: { position: 20 } }, 'uvwxyz');
  await ask(port, { options: { length: 2 } }, 'ab');
  await ask(port, { header: 'x: ', options: { position: 25 } }, 'x: z');
  await ask(port, { header: 'x: ', options: { position: 26 } }, 'x: ');
  await ask(port, { header: 'x: ', options: { length: 0 } }, 'x: ');
});

test('a part that the file does not have is refused, and another answer can be given', async () => {
  const { port } = await setUp();
  for (const options of [
    { position: 27 },
    { position: 3, length: 24 },
    { position: -1 },
    { length: 1.5 },
  ]) {
    await ask(port, { options }, 'ERR_OUT_OF_RANGE\n');
  }
  for (const options of [{ position: '1' }, { close: 1 }]) {
    await ask(port, { options }, 'ERR_INVALID_ARG_TYPE\n');
  }
  await ask(port, { options: { start: 1 } }, 'ERR_INVALID_ARG_VALUE\n');
});

test('a part is of a file', async () => {
  const codes: unknown[] = [];
  const pipeline = newPipeline({
    receive: { native: frames({ delimiter: '\n' }), next: 'work' },
    work: {
      stage: defineStage({
        states: {
          open: {
            handedOff(c) {
              try {
                c.reply('text', { position: 1 });
              } catch (error) {
                codes.push((error as NodeJS.ErrnoException).code);
              }
              return c.reply('text\n');
            },
          },
        },
      }),
      threads: 0,
    },
  });
  const { port } = await pipeline.listen('receive', { host: '127.0.0.1', port: 0 });
  const client = new Client(port);
  client.write('x\n');
  await until(() => client.size >= 5);
  expect(codes).toEqual(['ERR_INVALID_ARG_VALUE']);
});

test.each([1, 2])(
  'what is no answer is refused: `undefined`, say (pipelined: %i)',
  async (pipelined) => {
    writeAlphabet();
    const codes: unknown[] = [];
    const stage = defineStage({
      states: {
        open: {
          async handedOff(c) {
            const file = await c.open(alphabet);
            const nothing: unknown[] = [
              undefined,
              null,
              7,
              [undefined],
              [['a', 'b']],
              ['a', 'b', 7],
            ];
            const withFiles = [
              [undefined, file],
              [['a', 'b'], file],
              [file, 'a'],
              ['a', file, 'b'],
            ];
            for (const wrong of [...nothing, ...withFiles]) {
              codes.push(codeOf(await failureOf(() => c.reply(wrong as never))));
            }
            await file.close();
            return c.reply('right\n');
          },
        },
      },
    });
    const pipeline = newPipeline({
      receive: { native: frames({ delimiter: '\n', pipelined }), next: 'work' },
      work: { stage, threads: 0 },
    });
    const { port } = await pipeline.listen('receive', { host: '127.0.0.1', port: 0 });
    await new Client(port).ask('x\n', 'right\n');
    const [type, value] = ['ERR_INVALID_ARG_TYPE', 'ERR_INVALID_ARG_VALUE'];
    expect(codes).toEqual([type, type, type, type, type, value, type, type, type, value]);
  },
);

test('the last answer: out whole, then the end, also for a client that goes on sending', async () => {
  const { pipeline, port } = await setUp();
  const client = new Client(port, { allowHalfOpen: true });
  const more = 'x'.repeat(200_000);
  client.write(`one\nbye\ntwo\n${more}\n`);
  await until(() => client.ended);
  expect(client.text).toBe('one\nfarewell\n');
  // Read, and thrown away, until it ends.
  client.write(`${more}\nthree\n`);
  client.socket.end();
  await empty(pipeline);
  expect(pipeline.stats().stages['receive']!.frames).toMatchObject({ documents: 2 });
});
