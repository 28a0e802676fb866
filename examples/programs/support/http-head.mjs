/**
 * Heads of HTTP/1.1 requests that have no body: RFC 9112, as far as a server of files needs it.
 */
export const LONGEST_HEAD = 16 * 1024;

const reasons = {
  400: 'Bad Request',
  301: 'Moved Permanently',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  413: 'Content Too Large',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  503: 'Service Unavailable',
  505: 'HTTP Version Not Supported',
};

/** An answer without a file. `more`: lines of its head. */
export function refusal(status, { closes = true, headOnly = false, more: lines = '' } = {}) {
  const text = `${status} ${reasons[status]}`;
  const more = `${lines}${status === 405 ? 'Allow: GET, HEAD\r\n' : ''}${closes ? 'Connection: close\r\n' : ''}`;
  const head = `HTTP/1.1 ${text}\r\n${more}Content-Type: text/plain\r\nContent-Length: ${text.length + 1}\r\n\r\n`;
  return headOnly ? head : `${head}${text}\n`;
}

/** Some take a NUL, or half of it, for the end of a line, and would see another request than this does. */
const LINES = /^[^\0\r\n]*(?:\r\n[^\0\r\n]*)*$/;
const TOKEN = /^[!#$%&'*+.^_`|~\w-]+$/;

/** Without the spaces and tabs around it. */
function trimmed(line, from) {
  let start = from;
  let end = line.length;
  while (start < end && isBlank(line.charCodeAt(start))) start++;
  while (end > start && isBlank(line.charCodeAt(end - 1))) end--;
  return line.slice(start, end);
}

function isBlank(code) {
  return code === 0x20 || code === 0x09;
}

/** From the second line on, by name in small letters; undefined where a line is none of a header. */
function headersOf(lines) {
  const headers = new Map();
  for (let i = 1; i < lines.length; i++) {
    const line = lines[i];
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    if (colon < 1 || !TOKEN.test(name)) return undefined;
    const value = trimmed(line, colon + 1);
    const before = headers.get(name);
    // A second Host or length may be meant for somebody who reads the other one.
    if (before !== undefined && (name === 'host' || name === 'content-length')) return undefined;
    headers.set(name, before === undefined ? value : `${before}, ${value}`);
  }
  return headers;
}

/** Most targets: names that begin with no dot, and nothing to decode. */
const PLAIN = /^(?:\/[\w~-][\w.~-]*)+$/;

/** The path below the root that a target names; undefined where it is none, or leads out. */
function pathOf(target) {
  if (PLAIN.test(target)) return target;
  const [encoded] = target.replace(/^https?:\/\/[^/]*/i, '').split('?', 1);
  let path;
  try {
    path = decodeURIComponent(encoded);
  } catch {
    return undefined;
  }
  if (!path.startsWith('/') || path.includes('\0') || path.includes('\\')) return undefined;
  // One file has one name, however it is spelt.
  const names = path.split('/').filter((name, i) => i === 0 || (name !== '' && name !== '.'));
  if (names.includes('..')) return undefined;
  return `${names.join('/')}${/\/\.?$/.test(path) ? '/' : ''}`;
}

/** What a request asks for: `{ method, path, headers, closes }`, or `{ refused: status }`. */
export function headOf(text) {
  if (!LINES.test(text)) return { refused: 400 };
  const lines = text.split('\r\n');
  const words = /^(\S+) (\S+) HTTP\/(\d)\.(\d)$/.exec(lines[0]);
  const headers = headersOf(lines);
  if (words === null || headers === undefined) return { refused: 400 };
  const [, method, target, major, minor] = words;
  if (major !== '1') return { refused: 505 };
  if (minor !== '0' && !headers.has('host')) return { refused: 400 };
  if (headers.has('transfer-encoding')) return { refused: 501 };
  if (method !== 'GET' && method !== 'HEAD') return { refused: 405 };
  if ((headers.get('content-length') ?? '0') !== '0') return { refused: 413 };
  const path = pathOf(target);
  if (path === undefined) return { refused: 400 };
  const connection = (headers.get('connection') ?? '').toLowerCase();
  const closes = minor === '0' ? !connection.includes('keep-alive') : connection.includes('close');
  return { method, path, headers, closes };
}
