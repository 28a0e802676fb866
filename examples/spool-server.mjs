/**
 * Receives documents over long-lived connections, keeps each in memory or in a file until it is
 * complete, and answers with its hash and its numbers of lines and words.
 *
 * A request is a frame (see support/frames.mjs) that holds the document; any number of them follow
 * each other. The answers come in order, as frames that hold JSON:
 *
 *     {"bytes":N,"sha256":"…","lines":N,"words":N}
 *     {"error":"ENOSPC"}                            that document could not be kept; the next may be
 *     {"error":"ERR_DOCUMENT_TOO_LARGE","max":N}    and the connection is closed
 *     {"error":"ETIMEDOUT"}                         the document stalled, and the connection is closed
 */
import { isMainThread } from 'node:worker_threads';
import { CompletionPort } from 'completion-port';
import { readArguments, serverOptions } from './support/arguments.mjs';
import { serveConnections, serveInWorker } from './support/connections.mjs';
import { count, makeCounters, readCounters } from './support/counters.mjs';
import { Description } from './support/describe.mjs';
import { FrameReader, jsonFrame } from './support/frames.mjs';
import { runProgram } from './support/program.mjs';
import { FAREWELL, spoolOptions, timedOut, tooLarge } from './support/spool-options.mjs';
import { MemoryDocument, Spool } from './support/spool.mjs';

/** What the client gets to know about a document. */
async function describe(contents, answer) {
  const description = new Description(answer);
  for await (const chunk of contents) description.update(chunk);
  return description.result();
}

/** Receives the next document; undefined when the client is gone in the middle of it. */
async function receiveDocument(frames, length, spool) {
  const whole = frames.whole(length);
  if (whole !== undefined) return new MemoryDocument(whole);
  const document = await spool.document(length);
  try {
    for (let missing = length; missing > 0;) {
      const bytes = await frames.read(document.space);
      if (bytes === 0) throw Object.assign(new Error('The client is gone'), { code: 'ECONNRESET' });
      await document.arrived(bytes);
      missing -= bytes;
    }
    await document.complete();
    return document;
  } catch (error) {
    await document.close();
    throw error;
  }
}

/** The answer to a document, which is given up afterwards. */
async function answerTo(document, answer) {
  try {
    if (document.failure === undefined) return await describe(document.contents(), answer);
    return { error: document.failure.code };
  } catch (error) {
    if (error.code === undefined) throw error;
    return { error: error.code };
  } finally {
    await document.close();
  }
}

/**
 * Sends the client away. Closing at once, with bytes of it not received, would reset the connection
 * and the client might never see the answer: so what it still sends is read, for a while.
 */
async function dismiss(socket, answer) {
  const signal = AbortSignal.timeout(FAREWELL);
  try {
    await socket.send(jsonFrame(answer), { signal });
    await socket.end();
    while ((await socket.receive({ signal })).length > 0);
  } catch (error) {
    if (error.code === undefined) throw error;
  }
}

/** Answers one document after another until the client has no more. */
async function converse(socket, spool, { max, timeout, answer: wanted, counters }) {
  const frames = new FrameReader(socket, timeout);
  const answers = [];
  for (;;) {
    // Documents that came together are answered together.
    if (answers.length > 0 && !frames.hasFrame) await socket.send(answers.splice(0), { timeout });
    const length = await frames.next();
    if (length === undefined) return;
    if (length > max) {
      if (answers.length > 0) await socket.send(answers.splice(0), { timeout });
      await dismiss(socket, tooLarge(max));
      return;
    }
    const document = await receiveDocument(frames, length, spool);
    const answer = await answerTo(document, wanted);
    answers.push(jsonFrame(answer));
    count(counters, answer.error ? 'failures' : 'documents', 1);
    count(counters, 'bytes', length);
  }
}

async function serveClient(socket, spool, settings) {
  count(settings.counters, 'connections', 1);
  try {
    socket.setNoDelay();
    await converse(socket, spool, settings);
  } catch (error) {
    if (error.code === undefined) throw error;
    if (error.code === 'ETIMEDOUT') await dismiss(socket, timedOut);
  } finally {
    await Promise.allSettled([socket.close()]);
  }
}

function serve(port, settings) {
  const spool = new Spool(port, { directory: settings.spool, memory: settings.memory });
  return (socket) => serveClient(socket, spool, settings);
}

function printStats(port, { counters, threads }) {
  const cpu = process.cpuUsage();
  const stats = {
    driver: port.driver,
    threads,
    ...readCounters(counters),
    cpu: { user: cpu.user / 1e6, system: cpu.system / 1e6 },
    residentBytes: process.memoryUsage.rss(),
    port: port.stats(),
  };
  console.log(JSON.stringify(stats));
}

async function main() {
  const settings = readArguments('spool-server', {
    usage: '[options]',
    about: 'Receives documents and answers with their hash and their numbers of lines and words.',
    options: {
      ...spoolOptions,
      ...serverOptions(7002),
    },
  });
  settings.counters = makeCounters();
  const { driver, threads } = settings;
  const port = new CompletionPort({ driver, concurrency: threads });
  const report = () => settings.stats && printStats(port, settings);
  process.on('SIGUSR2', report);
  await serveConnections(import.meta.url, port, settings, serve, report);
}

if (isMainThread) await runProgram('spool-server', main);
else await serveInWorker(serve);
