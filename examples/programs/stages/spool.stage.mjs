/**
 * The spool server's first stage in JavaScript, for comparison with the native one (--native off):
 * receives documents, hands a connection on when it has a whole one, and sends the answer when it is
 * back. Each state is a few lines, because what comes before and after is another state's business.
 */
import { defineStage } from 'completion-port/stages';
import { frame } from '../support/frames.mjs';
import { Spool, spoolFields } from '../support/spool.mjs';
import { FAREWELL, timedOut, tooLarge } from '../support/spool-options.mjs';

const HEADER = 4;

export default function ({ max, timeout, spool }) {
  const documents = new Spool(spool);

  /** Goes through the bytes; a document that is whole takes the connection to the next stage. */
  function take(c, bytes) {
    const { record } = c;
    const inHeader = takeHeader(record, bytes);
    if (record.headerBytes < HEADER) return wait(c, record.headerBytes > 0 ? 'header' : 'idle');
    if (record.length > max) return dismiss(c, tooLarge(max));
    const end = Math.min(bytes.length, inHeader + record.length - record.received);
    documents.append(record, bytes.subarray(inHeader, end));
    if (record.received < record.length) return wait(c, 'body');
    if (!documents.putBack(record, bytes.subarray(end))) return c.close();
    return c.handOff('work');
  }

  /** The number of bytes that belong to the header. */
  function takeHeader(record, bytes) {
    const used = Math.min(bytes.length, HEADER - record.headerBytes);
    for (let i = 0; i < used; i++) record.length = ((record.length << 8) | bytes[i]) >>> 0;
    record.headerBytes += used;
    return used;
  }

  /** Between documents a client may take its time. */
  function wait(c, state) {
    c.timeout(state === 'idle' ? 0 : timeout);
    return state;
  }

  function dismiss(c, why) {
    documents.close(c.record);
    c.record.answer = JSON.stringify(why);
    return 'refusing';
  }

  const stalled = (c) => dismiss(c, timedOut);
  const ignore = () => undefined;
  return defineStage({
    record: { ...spoolFields, gone: 'bool' },
    states: {
      idle: { handedOff: () => 'answering', received: take },
      header: { received: take, timeout: stalled },
      body: { received: take, timeout: stalled },
      // Nothing is received meanwhile: what a client sends, and its end, waits with the connection.
      answering: {
        entered(c) {
          c.timeout(timeout);
          c.send(frame(c.record.answer));
        },
        sent: (c) => documents.withRest(c.record, (bytes) => take(c, bytes)),
      },
      // Closing with bytes not received would reset the connection, and the client might never see
      // the answer: what it still sends is read, for a while.
      refusing: {
        entered(c) {
          c.timeout(FAREWELL);
          c.end(frame(c.record.answer));
        },
        received: ignore,
        ended(c) {
          c.record.gone = true;
        },
        sent: (c) => (c.record.gone ? c.close() : 'dismissed'),
        timeout: (c) => c.close(),
      },
      dismissed: { received: ignore, timeout: (c) => c.close() },
    },
    otherwise: { closed: (c) => documents.close(c.record) },
  });
}
