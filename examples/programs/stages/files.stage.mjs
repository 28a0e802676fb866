/**
 * The file server's only stage: HTTP/1.1 requests for files, on connections that stay open. A head
 * that comes in pieces is given back until it is whole; a file goes out past JavaScript.
 */
import { defineStage } from 'completion-port/stages';
import { headOf, LONGEST_HEAD, refusal } from '../support/http-head.mjs';
import { OpenFiles } from '../support/open-files.mjs';
import { rangeOf } from '../support/ranges.mjs';

const [CR, LF] = Buffer.from('\r\n');
const CONTINUES = undefined;
const WAITS = 'busy';

/** Milliseconds that the head of a request may take. */
const HEAD_TIME = 10_000;

let now = '';
/** The value of a Date header, which has no more than seconds. */
function date() {
  if (now !== '') return now;
  setTimeout(() => (now = ''), 1000 - (Date.now() % 1000)).unref();
  return (now = new Date().toUTCString());
}

/** What a client that names what it has may keep. */
function isFresh({ headers }, { etag, modified }) {
  const known = headers.get('if-none-match');
  if (known !== undefined) return known === '*' || known.split(/,\s*/).includes(etag);
  return Date.parse(headers.get('if-modified-since') ?? '') >= modified;
}

/** The line of the head that says which bytes of the file follow; undefined for its whole. */
function lineOf(range, size) {
  const last = range.position + range.length - 1;
  return `Content-Range: bytes ${range.position}-${last}/${size}\r\n`;
}

/** False when the client has enough to read. */
function send(c, head, entry, common) {
  const { file, size, etag, described, contents } = entry;
  if (isFresh(head, entry)) {
    return c.send(`HTTP/1.1 304 Not Modified\r\n${common}ETag: ${etag}\r\n\r\n`);
  }
  const range = rangeOf(head, entry);
  if (range === 'unsatisfiable') {
    const what = `Content-Range: bytes */${size}\r\nContent-Length: 0\r\n\r\n`;
    return c.send(`HTTP/1.1 416 Range Not Satisfiable\r\n${common}${what}`);
  }
  const { position, length } = range ?? { position: 0, length: size };
  const status = range ? `206 Partial Content\r\n${lineOf(range, size)}` : '200 OK\r\n';
  const top = `HTTP/1.1 ${status}${common}${described}Content-Length: ${length}\r\n\r\n`;
  if (head.method === 'HEAD' || length === 0) return c.send(top);
  if (contents !== undefined) return c.send([top, contents.subarray(position, position + length)]);
  c.send(top);
  c.sendFile(file, { position, length });
  c.record.promised = length;
  return false; // the next answer waits until all of this has gone out
}

/** What the handler is to return, WAITS where the client has enough to read, or CONTINUES. */
function answer(c, head, entry) {
  const { closes } = head;
  const common = `Date: ${date()}\r\n${closes ? 'Connection: close\r\n' : ''}`;
  const more = send(c, head, entry, common);
  if (closes) return c.close();
  return more ? CONTINUES : WAITS;
}

function refuse(c, status) {
  c.send(refusal(status));
  return c.close();
}

export default ({ root }) => {
  let files;

  /** Answers a request: what the handler is to return, a promise of it, or CONTINUES. */
  function respond(c, head) {
    if (head.refused) return refuse(c, head.refused);
    const entry = files.get(head.path);
    return entry instanceof Promise ? found(c, head, entry) : answer(c, head, entry);
  }

  async function found(c, head, opening) {
    const entry = await opening;
    if (entry.status === undefined) return answer(c, head, entry);
    const { method, closes, path } = head;
    const more = entry.status === 301 ? `Location: ${encodeURI(path)}/\r\n` : '';
    c.send(refusal(entry.status, { closes, headOnly: method === 'HEAD', more }));
    return closes ? c.close() : CONTINUES;
  }

  /** All requests that are whole, as long as the client reads the answers; the rest is given back. */
  function requests(c, bytes) {
    for (let from = 0; ;) {
      while (bytes[from] === CR && bytes[from + 1] === LF) from += 2; // RFC 9112, 2.2
      const end = bytes.indexOf('\r\n\r\n', from);
      if (end < 0 && bytes.length - from > LONGEST_HEAD) return refuse(c, 431);
      if (end < 0) return keep(c, bytes.subarray(from), CONTINUES);
      if (c.record.begun) c.timeout((c.record.begun = 0));
      const head = headOf(bytes.latin1Slice(from, end));
      from = end + 4;
      const rest = bytes.subarray(from);
      const result = respond(c, head);
      if (result instanceof Promise) return result.then((done) => goOn(c, rest, done));
      if (result !== CONTINUES) return goOn(c, rest, result);
    }
  }

  function goOn(c, rest, result) {
    if (result === CONTINUES) return requests(c, rest);
    return result === WAITS ? keep(c, rest, c.enter(WAITS)) : result;
  }

  /** What is no whole request yet, or has to wait for its turn. */
  function keep(c, rest, result) {
    if (rest.length > 0) c.unread(rest);
    if (rest.length > 0 && result === CONTINUES && !c.record.begun) {
      c.record.begun = 1;
      c.timeout(HEAD_TIME);
    }
    return result;
  }

  return defineStage({
    setup: ({ port }) => void (files = new OpenFiles(port, root)),
    teardown: () => files.close(),
    // Bytes of the file that were promised and are not out; whether a head has begun to come.
    record: { promised: 'f64', begun: 'u8' },
    states: {
      open: { received: requests, timeout: (c) => refuse(c, 408) },
      // Hears nothing: what the client sends waits with the connection.
      busy: {
        drain: (c) => (c.record.promised === 0 ? 'open' : undefined),
        fileSent(c, bytes) {
          // A file that has become shorter leaves the client without the rest, which it waits for.
          if (bytes !== c.record.promised) return c.close();
          c.record.promised = 0;
          return c.enter('open');
        },
      },
    },
  });
};
