/**
 * Takes lines, appends them to a log, and answers each with "ok" when it is on the device.
 */
import fs from 'node:fs/promises';
import net from 'node:net';
import { frames, Pipeline } from 'completion-port/stages';
import { DurableLog } from '../../../examples/programs/support/durable-log.mjs';
import { readOptions } from '../options.mjs';
import { assertDriver, makePort } from '../ports.mjs';
import { serve } from '../server.mjs';

const LF = 10;
const where = { host: '127.0.0.1', port: 0 };

/** Of what came, the whole lines; what is left is kept for the next call. */
class Lines {
  #rest = Buffer.alloc(0);

  take(bytes) {
    const all = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const end = all.lastIndexOf(LF) + 1;
    this.#rest = all.subarray(end);
    return all.subarray(0, end);
  }
}

const count = (bytes) => {
  let lines = 0;
  for (let at = bytes.indexOf(LF); at >= 0; at = bytes.indexOf(LF, at + 1)) lines++;
  return lines;
};

async function byNet({ file }) {
  const log = new DurableLog(await fs.open(file, 'a'));
  const server = net.createServer({ noDelay: true }, (socket) => {
    const lines = new Lines();
    socket.on('error', () => socket.destroy());
    socket.on('data', async (bytes) => {
      const whole = lines.take(bytes);
      if (whole.length === 0) return;
      await log.append(whole);
      socket.write('ok\n'.repeat(count(whole)));
    });
  });
  await new Promise((resolve) => server.listen(where, resolve));
  return server.address().port;
}

async function byAwait({ file, driver }) {
  const port = makePort({ driver, concurrency: 1 });
  const log = new DurableLog(await port.open(file, 'a'));
  const listener = await port.listen(where);
  const talk = async (socket) => {
    const lines = new Lines();
    for await (const bytes of socket) {
      const whole = lines.take(bytes);
      if (whole.length === 0) continue;
      void log
        .append(whole)
        .then(() => socket.send('ok\n'.repeat(count(whole))))
        .catch(() => undefined); // the client has left
    }
  };
  void (async () => {
    for await (const socket of listener) void talk(socket).catch(() => undefined);
  })();
  return listener.address().port;
}

async function byFrames({ file, driver }) {
  assertDriver(driver);
  const stage = new URL('../../../examples/programs/stages/ingest.stage.mjs', import.meta.url);
  const pipeline = new Pipeline(
    {
      spool: {
        native: frames({ delimiter: '\n', maxLength: '1MiB', pipelined: 65_536 }),
        threads: 1,
        next: 'log',
      },
      log: { stage, threads: 1, data: { file } },
    },
    { driver },
  );
  await pipeline.ready();
  return (await pipeline.listen('spool', where)).port;
}

const styles = { net: byNet, await: byAwait, frames: byFrames };
const options = readOptions();
serve(await styles[options.style](options));
