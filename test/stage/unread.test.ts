/** `c.unread`: bytes that are not a whole message yet come again, in front of what follows. */
import { expect, test } from 'vitest';
import { newSeed, Random, turns, until } from '../support/harness';
import { Client, fixture, newPipeline, type Pipeline } from '../support/stages';

async function served(mode?: string): Promise<{ port: number; pipeline: Pipeline }> {
  const stage = (next: string): object => ({
    stage: fixture('unreading.mjs'),
    threads: 2,
    data: { next, mode },
  });
  const pipeline = newPipeline({ one: stage('two'), two: stage('one') } as never);
  const { port } = await pipeline.listen('one', { host: '127.0.0.1', port: 0 });
  return { port, pipeline };
}

/** Sends the pieces one after the other, some time apart. */
async function inPieces(client: Client, pieces: readonly string[]): Promise<void> {
  for (const piece of pieces) {
    client.socket.write(piece);
    await turns(3);
  }
}

async function answers(client: Client): Promise<string> {
  client.socket.end();
  await until(() => client.closed);
  return client.text;
}

test('a line that comes in pieces is seen as one', async () => {
  const client = new Client((await served()).port);
  await inPieces(client, ['ab', 'c', 'd\nefg', '\n', 'h\n\ni']);
  expect(await answers(client)).toBe('4\n3\n1\n0\nrest 1 i\n');
});

test('each byte alone', async () => {
  const client = new Client((await served()).port);
  await inPieces(client, [...'one\ntwenty\n\nend']);
  expect(await answers(client)).toBe('3\n6\n0\nrest 3 end\n');
});

test('in another state, and at another stage, it is there at once', async () => {
  const client = new Client((await served()).port);
  client.socket.write('?\nabcdxy\n!\nthree\n!\n?\nefghlast');
  expect(await answers(client)).toBe('four abcd\n2\n5\nfour efgh\nrest 4 last\n');
});

test('given back in parts, the later ones in front', async () => {
  const client = new Client((await served('twice')).port);
  await inPieces(client, ['abc', 'def', 'ghi']);
  expect(await answers(client)).toBe('rest 9 abcdefghi\n');
});

test('more than 64 KiB is refused, and the connection told', async () => {
  const client = new Client((await served()).port);
  client.socket.write('x'.repeat(65_537));
  await until(() => client.closed);
  expect(client.text).toBe('ERR_OUT_OF_RANGE\n');
});

test('lines of random clients, cut at random, across two stages', async () => {
  const random = new Random(newSeed('unread'));
  const { port, pipeline } = await served();
  const live = async (): Promise<void> => {
    const client = new Client(port);
    let expected = '';
    let text = '';
    for (let i = 0; i < 200; i++) {
      const kind = random.below(12);
      if (kind === 0) text += '!\n';
      else if (kind === 1) {
        text += '?\nwxyz';
        expected += 'four wxyz\n';
      } else {
        const length = random.below(random.below(10) === 0 ? 5000 : 20);
        text += `${'l'.repeat(length)}\n`;
        expected += `${length}\n`;
      }
    }
    for (let at = 0; at < text.length;) {
      const end = at + 1 + random.below(random.below(4) === 0 ? 9000 : 30);
      client.socket.write(text.slice(at, end));
      at = end;
      if (random.below(3) > 0) await turns(1);
    }
    expect(await answers(client)).toBe(`${expected}rest 0 \n`);
  };
  await Promise.all(Array.from({ length: 20 }, live));
  const allocated = (): number[] =>
    Object.values(pipeline.stats().stages).map((stage) => stage.port.allocatedBytes);
  await until(() => allocated().every((bytes) => bytes === 0));
});
