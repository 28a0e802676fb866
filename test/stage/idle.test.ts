import { readdirSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { pathToFileURL } from 'node:url';
import { onTestFinished, expect, test } from 'vitest';
import { root, skipOnWindows, startProcess, until } from '../support/harness';

/** Wake-ups of all threads of a process so far: how often each of them went to sleep. */
function sleeps(pid: number): number {
  let sum = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      const status = readFileSync(`/proc/${pid}/task/${task}/status`, 'utf8');
      sum += Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1] ?? 0);
    } catch {
      // The thread has ended.
    }
  }
  return sum;
}

const base = pathToFileURL(`${root}/`);

/** A stage whose connections wait with a deadline, and one of frames whose connections do. */
const server = `
import { frames, Pipeline } from ${JSON.stringify(new URL('dist/stages-esm.mjs', base).href)};
const stage = (name) => new URL(name, ${JSON.stringify(new URL('test/stage/fixtures/', base).href)});
const pipeline = new Pipeline(
  {
    wait: { stage: stage('patient.mjs'), threads: 2 },
    spool: {
      native: frames({ length: 'u32be', maxLength: 1000, idleTimeout: 600_000 }),
      next: 'work',
      threads: 2,
    },
    work: { stage: stage('answers.mjs'), threads: 2, data: {} },
  },
  { maxConnections: 1024 },
);
const where = { host: '127.0.0.1', port: 0 };
const first = await pipeline.listen('wait', where);
const second = await pipeline.listen('spool', where);
console.log(first.port + ' ' + second.port);
`;

/** The fewest in one of several spells: whatever else the machine does only adds to them. */
const SPELLS = 10;
const SPELL = 500;
/** In one spell: the clock of the records alone made 25, and Node.js may have its own. */
const FEW = 8;

test('an idle process makes no wake-ups, whatever connections wait in its stages', async (context) => {
  skipOnWindows(context, 'nothing tells how often a thread sleeps');
  const child = startProcess(['--input-type=module', '-e', server]);
  onTestFinished(() => void child.kill('SIGKILL'));
  let told = '';
  child.stdout!.on('data', (text: Buffer) => (told += text.toString()));
  await until(() => told.includes('\n'));
  const ports = told.trim().split(' ').map(Number);
  let answers = 0;
  for (const port of ports) {
    for (let i = 0; i < 20; i++) {
      const client = net.connect({ host: '127.0.0.1', port });
      onTestFinished(() => void client.destroy());
      client.on('data', () => answers++);
      client.write(Buffer.from([0, 0, 0, 1, 120]));
    }
  }
  await until(() => answers >= 40);
  let fewest = Infinity;
  for (let i = 0; i < SPELLS && fewest > FEW; i++) {
    const before = sleeps(child.pid!);
    await new Promise((resolve) => setTimeout(resolve, SPELL));
    fewest = Math.min(fewest, sleeps(child.pid!) - before);
  }
  expect(fewest).toBeLessThanOrEqual(FEW);
});
