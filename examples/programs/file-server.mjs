/**
 * Serves the files of a directory over HTTP/1.1: GET and HEAD, ranges, connections that stay open.
 *
 *     node examples/programs/file-server.mjs --root docs --port 8080
 */
import { realpathSync, statSync } from 'node:fs';
import { Pipeline } from 'completion-port/stages';
import { option, readArguments, serverOptions } from './support/arguments.mjs';
import { runProgram, untilSignal } from './support/program.mjs';
import { announce } from './support/server.mjs';

/** A connection on which nothing moves for so long is closed. */
const IDLE = 60_000;

await runProgram('file-server', async () => {
  const { root, host, port, threads, driver } = readArguments('file-server', {
    usage: '--root DIRECTORY [options]',
    about: 'Serves the files of a directory over HTTP.',
    options: { root: option('DIRECTORY', '.', 'what is served'), ...serverOptions(8080) },
  });
  const folder = realpathSync(root);
  if (!statSync(folder).isDirectory()) {
    throw Object.assign(new Error(`${root} is no directory`), { code: 'ENOTDIR' });
  }
  const pipeline = new Pipeline(
    {
      files: {
        stage: new URL('./stages/files.stage.mjs', import.meta.url),
        data: { root: folder },
        threads,
      },
    },
    { driver },
  );
  pipeline.on('failed', ({ error }) => {
    // Clients come and go; a mistake of the program deserves a word.
    if (error.code === undefined) console.error(error);
  });
  const signalled = untilSignal(); // whoever reads the ready line may send one at once
  const place = { host, port, noDelay: true, idleTimeout: IDLE };
  announce(await pipeline.listen('files', place), pipeline.driver, threads);
  await signalled;
  await pipeline.close({ grace: 2000 });
});
