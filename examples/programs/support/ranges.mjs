/** Ranges of bytes: RFC 9110, 14. */

/** `{ position, length }`; 'unsatisfiable'; undefined: all of it. One range, not several. */
export function rangeOf({ method, headers }, { size, etag, lastModified }) {
  const asked = headers.get('range');
  if (asked === undefined || method !== 'GET') return undefined;
  const condition = headers.get('if-range');
  if (condition !== undefined && condition !== etag && condition !== lastModified) return undefined;
  const words = /^bytes=(?:(\d+)-(\d*)|-(\d+))$/.exec(asked);
  if (words === null) return undefined;
  const [, first, last, suffix] = words;
  if (first === undefined) return part(size - Math.min(size, Number(suffix)), size - 1);
  if (last !== '' && Number(last) < Number(first)) return undefined;
  return part(Number(first), last === '' ? size - 1 : Math.min(Number(last), size - 1));
}

function part(first, last) {
  return first > last ? 'unsatisfiable' : { position: first, length: last - first + 1 };
}
