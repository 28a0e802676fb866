/**
 * Files to standard output, read ahead in order.
 *
 *     node examples/programs/cat.mjs README.md - < package.json | wc
 */
import { CompletionPort } from 'completion-port';
import { driverOption, readArguments } from './support/arguments.mjs';
import { runProgram } from './support/program.mjs';
import { standardInput, standardOutput } from './support/standard.mjs';

/** The chunks of a file, with several reads under way ahead of whoever asks for them. */
async function* contents(port, path, output) {
  const file = await port.open(path, 'r');
  try {
    const { dev, ino, size } = await file.stat();
    const { status } = output;
    if (status.isFile() && status.ino === ino && status.dev === dev && size > 0) {
      throw Object.assign(new Error(`${path} is the output as well`), { code: 'EINVAL' });
    }
    yield* file.chunks({ size: 256 * 1024, depth: 8, lend: true });
  } finally {
    await file.close();
  }
}

/** Fails when writing fails; a file that can't be read is reported, and the next one is tried. */
async function cat(port, paths) {
  const output = await standardOutput(port);
  for (const path of paths) {
    const chunks = path === '-' ? standardInput(port) : contents(port, path, output);
    try {
      for await (const chunk of chunks) {
        await output.write(chunk).catch((error) => {
          throw new WriteError(error);
        });
      }
    } catch (error) {
      if (error instanceof WriteError) throw error.cause;
      if (error.code === undefined) throw error;
      console.error(`cat: ${error.message}`);
      process.exitCode = 1;
    }
  }
}

/** Tells a failure to write from one to read. */
class WriteError extends Error {
  constructor(cause) {
    super(cause.message, { cause });
  }
}

async function main() {
  const { driver, arguments: paths } = readArguments('cat', {
    usage: '[options] [FILE]...',
    about: 'Writes files to standard output. - or no FILE: standard input.',
    options: driverOption,
    arguments: [0, Infinity],
  });
  const port = new CompletionPort({ driver });
  try {
    await cat(port, paths.length > 0 ? paths : ['-']);
  } catch (error) {
    // Whoever reads our output has seen enough.
    if (error.code !== 'EPIPE') throw error;
  } finally {
    await port.close();
  }
}

await runProgram('cat', main);
