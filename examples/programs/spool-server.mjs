/**
 * Receives documents over long-lived connections, keeps each in memory or in a file until it is
 * complete, and answers with its hash and its numbers of lines and words.
 *
 * Two stages: `spool` receives documents whole, in native threads, however slowly or in however many
 * pieces they come; `work` looks at them, in JavaScript, and is entered once for a document. The
 * connection moves from one to the other and back.
 *
 * A request is a frame (a 4-byte big-endian length, and so many bytes) that holds the document; any
 * number of them follow each other. The answers come in order, as frames that hold JSON:
 *
 *     {"bytes":N,"sha256":"…","lines":N,"words":N}
 *     {"error":"ERR_DOCUMENT_TOO_LARGE","max":N}    and the connection is closed
 *     {"error":"ETIMEDOUT"}                         the document stalled, and the connection is closed
 *     {"error":"ENOSPC"}                            or another reason why it could not be kept; the
 *                                                   connection goes on with the next document
 *
 * With --native off, `spool` is a stage in JavaScript too, to compare with.
 */
import { frames, Pipeline } from 'completion-port/stages';
import { integer, option, readArguments, serverOptions } from './support/arguments.mjs';
import { makeCounters, readCounters } from './support/counters.mjs';
import { jsonFrame } from './support/frames.mjs';
import { runProgram, untilSignal } from './support/program.mjs';
import { announce } from './support/server.mjs';
import { SharedBlocks } from './support/shared-blocks.mjs';
import {
  FAREWELL,
  nativeOption,
  spoolOptions,
  timedOut,
  tooLarge,
} from './support/spool-options.mjs';

const MiB = 2 ** 20;

/** Memory for documents, in all; beyond it even short ones go to files. */
const MEMORY_LIMIT = 1024 * MiB;

function stageModule(name) {
  return new URL(`./stages/${name}.stage.mjs`, import.meta.url);
}

/** The first stage in native code. */
function nativeSpool({ max, memory, spool, timeout }) {
  return {
    native: frames({
      length: 'u32be',
      maxLength: max,
      spool: 'file',
      memoryThreshold: memory,
      directory: spool,
      stallTimeout: timeout,
      // Clients that take all day are this server's trade: what each holds is what it has sent.
      minRate: 0,
      farewellTimeout: FAREWELL,
      tooLarge: jsonFrame(tooLarge(max)),
      timedOut: jsonFrame(timedOut),
    }),
    next: 'work',
  };
}

/** The stages. In JavaScript they share blocks of memory, which records name. */
function stagesOf(settings, counters) {
  const { native, max, memory, timeout, answer, threads } = settings;
  const spool = native
    ? undefined
    : { shared: SharedBlocks.create(MEMORY_LIMIT), directory: settings.spool, memory };
  const first = native
    ? nativeSpool(settings)
    : { stage: stageModule('spool'), data: { max, timeout, spool } };
  return {
    spool: { ...first, threads: settings['spool-threads'] },
    work: { stage: stageModule('work'), threads, data: { native, answer, counters, spool } },
  };
}

/** How often JavaScript was called: for packets, and for what it awaited of documents in files. */
function wakeUps(spool, work) {
  const native = spool.frames !== undefined; // its packets never get to JavaScript
  return work.packets + work.port.completed + (native ? 0 : spool.packets);
}

function printStats(pipeline, settings, counters) {
  const cpu = process.cpuUsage();
  const { stages } = pipeline.stats();
  const { spool, work } = stages;
  console.log(
    JSON.stringify({
      driver: pipeline.driver,
      threads: settings.threads,
      // In JavaScript, those that came back with an answer have arrived once more.
      connections: spool.frames?.connections ?? spool.arrived - work.handedOff,
      ...readCounters(counters),
      wakeUps: wakeUps(spool, work),
      cpu: { user: cpu.user / 1e6, system: cpu.system / 1e6 },
      residentBytes: process.memoryUsage.rss(),
      stages,
    }),
  );
}

async function main() {
  const settings = readArguments('spool-server', {
    usage: '[options]',
    about: 'Receives documents and answers with their hash and their numbers of lines and words.',
    options: {
      ...spoolOptions,
      ...serverOptions(7002),
      threads: option('N', '5', 'threads of the stage that answers', integer(1, 64)),
      'spool-threads': option('N', '2', 'threads of the stage that receives', integer(1, 64)),
      native: nativeOption,
      inspect: option(
        'PORT',
        undefined,
        'show the stages at work on a web page',
        integer(0, 65535),
      ),
    },
  });
  const counters = makeCounters();
  const { driver, threads, host, port } = settings;
  const pipeline = new Pipeline(stagesOf(settings, counters), { driver });
  const report = () => settings.stats && printStats(pipeline, settings, counters);
  process.on('SIGUSR2', report);
  const address = await pipeline.listen('spool', { host, port, backlog: 4096 });
  const signalled = untilSignal(); // whoever reads the ready line may send one at once
  announce(address, pipeline.driver, threads);
  if (settings.inspect !== undefined) {
    const inspector = await pipeline.inspector({ port: settings.inspect });
    console.log(`inspector on ${inspector.url}`);
  }
  await signalled;
  report();
  await pipeline.close();
  process.exit(); // at once: while Node.js ends by itself, one more signal would kill it
}

await runProgram('spool-server', main);
