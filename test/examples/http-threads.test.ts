import { once } from 'node:events';
import { expect, test } from 'vitest';
import { ended } from '../support/harness';
import { startExample } from '../support/examples';

test('http-threads answers, and ends at SIGTERM', async () => {
  const child = startExample('http-threads', ['0', '2']);
  const end = ended(child);
  const [line] = (await once(child.stdout!, 'data')) as [Buffer];
  const url = /http:\S+/.exec(String(line))![0];
  for (let i = 0; i < 3; i++) {
    const response = await fetch(url, { headers: { connection: 'close' } });
    expect(await response.text()).toMatch(/^Thread \d+ says hello\.\n$/);
  }
  child.kill('SIGTERM');
  expect(await end).toMatchObject({ code: 0 });
});
