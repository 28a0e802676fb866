/**
 * Two stages that hand tasks, or connections, to and fro.
 */
import net from 'node:net';
import { Pipeline } from 'completion-port/stages';
import { readOptions } from '../options.mjs';
import { assertDriver } from '../ports.mjs';
import { observe, report } from '../stopwatch.mjs';

const stage = new URL('./stages/hop.stage.mjs', import.meta.url);

/** Clients that connect and then say nothing. */
async function connect(pipeline, keys) {
  const { port } = await pipeline.listen('a', { host: '127.0.0.1', port: 0, backlog: 4096 });
  const sockets = Array.from({ length: keys }, () => net.connect(port, '127.0.0.1'));
  await Promise.all(sockets.map((socket) => new Promise((done) => socket.once('connect', done))));
}

function hops(pipeline) {
  const { a, b } = pipeline.stats().stages;
  if (a.failures + b.failures > 0) throw new Error('a hand-off failed');
  return a.handedOff + b.handedOff;
}

async function main() {
  const { driver, keys, sockets, threads = 1, pin = false, ...times } = readOptions();
  assertDriver(driver);
  const pool = { stage, threads, pin };
  const stages = { a: { ...pool, data: { to: 'b' } }, b: { ...pool, data: { to: 'a' } } };
  const pipeline = new Pipeline(stages, { driver });
  pipeline.on('failed', ({ error }) => {
    throw error;
  });
  await pipeline.ready();
  if (sockets) await connect(pipeline, keys);
  else for (let i = 0; i < keys; i++) pipeline.start('a');
  report(await observe({ ...times, count: () => hops(pipeline) }));
  process.exit(); // nothing is lost but what goes to and fro
}

await main();
