/**
 * The spool server's second stage: looks at whole documents, and answers. A connection comes with
 * its document and goes back with the answer; it never waits here for a client.
 */
import { defineStage } from 'completion-port/stages';
import { count } from '../support/counters.mjs';
import { Description } from '../support/describe.mjs';
import { jsonFrame } from '../support/frames.mjs';
import { Spool, spoolFields } from '../support/spool.mjs';

/** Counts a document, and the answer to it. */
function tally(counters, length, result) {
  count(counters, result.error ? 'failures' : 'documents', 1);
  count(counters, 'bytes', length);
}

/** What goes wrong with a document is an answer to it; anything else is a mistake in the program. */
function failureOf(error) {
  if (error.code === undefined) throw error;
  return { error: error.code };
}

function attempt(describe) {
  try {
    return describe();
  } catch (error) {
    return failureOf(error);
  }
}

/** At once for what lies in memory, else a promise. */
function describeDocument(document, answer) {
  const description = new Description(answer);
  if (answer === 'length' && document.error === undefined) description.skip(document.length);
  else if (document.inFile) return describeFile(document, description);
  else description.update(document.bytes);
  return description.result();
}

async function describeFile(document, description) {
  try {
    for await (const chunk of document.chunks({ lend: true })) description.update(chunk);
  } catch (error) {
    return failureOf(error);
  }
  return description.result();
}

/** For documents of the native stage, which sends the answer when the connection is back. */
function afterNative({ answer, counters }) {
  return defineStage({
    states: {
      document: {
        handedOff(c) {
          const { document } = c;
          const reply = (result) => {
            tally(counters, document.length, result);
            return c.reply(jsonFrame(result));
          };
          const result = attempt(() => describeDocument(document, answer));
          return result instanceof Promise ? result.then(reply) : reply(result);
        },
      },
    },
  });
}

/** For documents of spool.stage.mjs. */
function afterJavaScript({ answer, counters, spool }) {
  const documents = new Spool(spool);
  const describe = (record) => {
    const description = new Description(answer);
    if (answer === 'length' && record.failure === '') description.skip(record.length);
    else for (const piece of documents.pieces(record)) description.update(piece);
    return description.result();
  };
  return defineStage({
    record: spoolFields,
    states: {
      document: {
        handedOff(c) {
          const { record } = c;
          const result = attempt(() => describe(record));
          tally(counters, record.length, result);
          documents.release(record);
          record.answer = JSON.stringify(result);
          return c.handOff('spool');
        },
      },
    },
    otherwise: { closed: (c) => documents.close(c.record) },
  });
}

export default (data) => (data.native ? afterNative(data) : afterJavaScript(data));
