/**
 * Takes lines over TCP into one log, and answers each with "ok" when it is on the device. Native
 * threads receive; what has come of a connection meanwhile goes to JavaScript at once, and one write
 * and one fdatasync are for all lines of all connections that came while the last ones were under way.
 *
 *     node examples/programs/ingest.mjs /tmp/lines.log
 *     printf 'one\ntwo\n' | nc -N 127.0.0.1 7010
 */
import { frames, Pipeline } from 'completion-port/stages';
import { integer, option, readArguments, serverOptions } from './support/arguments.mjs';
import { runProgram, untilSignal } from './support/program.mjs';
import { announce } from './support/server.mjs';

const stage = new URL('./stages/ingest.stage.mjs', import.meta.url);

async function main() {
  const {
    host,
    port,
    driver,
    threads,
    arguments: positionals,
  } = readArguments('ingest', {
    usage: '[options] LOG',
    about: 'Appends lines to LOG, and answers each when it is on the device.',
    arguments: [1, 1],
    options: {
      ...serverOptions(7010),
      threads: option('N', '1', 'native threads that receive', integer(1, 64)),
    },
  });
  const [file] = positionals;
  // One thread has the log, so that one fdatasync is for all.
  const receive = { native: frames({ delimiter: '\n', maxLength: '1MiB', pipelined: 65_536 }) };
  const stages = {
    receive: { ...receive, threads, next: 'log' },
    log: { stage, threads: 1, data: { file } },
  };
  const pipeline = new Pipeline(stages, { driver });
  const address = await pipeline.listen('receive', { host, port, backlog: 4096 });
  const signalled = untilSignal(); // whoever reads the ready line may send one at once
  announce(address, pipeline.driver, threads);
  await signalled;
  await pipeline.close({ grace: 5000 }); // what was received is written and answered first
  process.exit(); // at once: while Node.js ends by itself, one more signal would kill it
}

await runProgram('ingest', main);
