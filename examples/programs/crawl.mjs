/**
 * Files with the same contents, below a directory: one micro-thread walks, and as many read as are
 * wanted. Ctrl-C cancels all of them; SIGUSR2 prints what each waits for.
 *
 *     node examples/programs/crawl.mjs node_modules
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { CompletionPort } from 'completion-port';
import { Channel, each, MicroThread, parallelMap, scope, spawn, wait } from 'completion-port/micro';
import { driverOption, integer, option, readArguments } from './support/arguments.mjs';
import { runProgram, untilSignal } from './support/program.mjs';

/** Puts the paths of all regular files below `directory` into `found`, which bounds them. */
function* walk(directory, found) {
  const entries = yield* wait(fs.readdir(directory, { withFileTypes: true }));
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const name = path.join(directory, entry.name);
    if (entry.isDirectory()) yield* walk(name, found);
    else if (entry.isFile()) yield* found.put(name);
  }
}

function* digest(port, name) {
  const file = yield* port.open(name);
  try {
    const hash = createHash('sha256');
    for (const chunk of yield* each(file.chunks({ lend: true }))) {
      hash.update(chunk);
      yield* each.next();
    }
    return { name, digest: hash.digest('hex') };
  } finally {
    yield* file.close(); // also when it is cancelled
  }
}

/** A failure of one, and a cancel from outside, end all of them before this throws. */
function* crawl(port, directory, concurrency) {
  const found = new Channel(1000);
  return yield* scope(function* (s) {
    s.spawn(function* walker() {
      yield* walk(directory, found);
      found.close();
    });
    return yield* parallelMap(found, (name) => digest(port, name), { concurrency });
  });
}

function printGroups(files) {
  const groups = new Map();
  for (const { name, digest } of files) groups.set(digest, [...(groups.get(digest) ?? []), name]);
  for (const group of groups.values()) if (group.length > 1) console.log(`${group.join('\n')}\n`);
}

function printTree(parent = undefined, indent = '') {
  for (const info of MicroThread.list().filter((one) => one.parent?.id === parent)) {
    const since = Math.round(performance.now() - (info.since ?? performance.now()));
    console.error(`${indent}${info.id} ${info.name}: ${info.operation ?? info.state}, ${since} ms`);
    printTree(info.id, `${indent}  `);
  }
}

async function main() {
  const {
    driver,
    concurrency,
    arguments: [directory],
  } = readArguments('crawl', {
    usage: '[options] DIRECTORY',
    about: 'Prints groups of files below a directory that have the same contents.',
    options: {
      concurrency: option('N', '16', 'files that are read at a time', integer(1, 1000)),
      ...driverOption,
    },
    arguments: [1, 1],
  });
  const port = new CompletionPort({ driver });
  const crawling = spawn(crawl(port, directory, concurrency), { name: 'crawl' });
  void untilSignal().then(() => crawling.cancel());
  if (process.platform !== 'win32') process.on('SIGUSR2', () => printTree());
  try {
    printGroups(await crawling);
  } finally {
    await port.close();
  }
}

await runProgram('crawl', main);
