/**
 * Checks of arguments, with the codes and the wording of Node.js (rule O3: a wrong argument throws
 * at once).
 */
import { inspect, types } from 'node:util';
import { coded } from './errors';

const U32 = 0xffffffff;
/** Keys in one list: a longer one is a mistake, or no memory could hold it. */
const MOST_KEYS = 2 ** 26;

export function invalidType(name: string, expected: string, value: unknown): TypeError {
  const what = `The "${name}" ${name.includes('.') ? 'property' : 'argument'}`;
  return coded(
    new TypeError(`${what} must be ${expected}. Received ${received(value)}`),
    'ERR_INVALID_ARG_TYPE',
  );
}

export function outOfRange(name: string, range: string, value: unknown): RangeError {
  return coded(
    new RangeError(
      `The value of "${name}" is out of range. It must be ${range}. Received ${shown(value)}`,
    ),
    'ERR_OUT_OF_RANGE',
  );
}

export function invalidValue(name: string, reason: string, value: unknown): TypeError {
  const what = name.includes('.') ? 'property' : 'argument';
  return coded(
    new TypeError(`The ${what} '${name}' ${reason}. Received ${shown(value, 0)}`),
    'ERR_INVALID_ARG_VALUE',
  );
}

/** Whether the memory of a view without a length has gone to somebody else. */
export function isGone(view: ArrayBufferView): boolean {
  try {
    // Each method of a typed array throws then, and so does the length of a DataView.
    if (types.isDataView(view)) void view.byteLength;
    else Uint8Array.prototype.at.call(view as Uint8Array, 0);
    return false;
  } catch {
    return true;
  }
}

/** A view whose ArrayBuffer has gone to somebody else. */
export function withoutMemory(name: string): TypeError {
  return coded(
    new TypeError(
      `The argument '${name}' has no memory any more: its ArrayBuffer was transferred, or made ` +
        'smaller',
    ),
    'ERR_INVALID_ARG_VALUE',
  );
}

/**
 * To look at it may throw: a DataView whose memory is gone, a getter of the program's. It may be long,
 * and a client's, and is to go into a log: cut off as Node.js does.
 */
function shown(value: unknown, depth = 2, most = 128): string {
  try {
    const text = inspect(value, { depth });
    return text.length <= most ? text : `${text.slice(0, most - 3)}...`;
  } catch {
    return typeof value;
  }
}

function received(value: unknown): string {
  if (value == null) return String(value);
  if (typeof value === 'function') return `function ${value.name}`;
  if (typeof value !== 'object') return `type ${typeof value} (${shown(value, 2, 28)})`;
  const constructor = value.constructor as { name?: string } | undefined;
  return constructor?.name ? `an instance of ${constructor.name}` : shown(value, -1);
}

export function integer(value: unknown, name: string, min: number, max: number): number {
  if (typeof value !== 'number') throw invalidType(name, 'of type number', value);
  if (!Number.isInteger(value)) throw outOfRange(name, 'an integer', value);
  if (value < min || value > max) throw outOfRange(name, `>= ${min} && <= ${max}`, value);
  return value;
}

/** What is not to be exceeded; Infinity: the greatest there can be. */
export function bound(value: unknown, name: string, min: number, max: number): number {
  return value === Infinity ? max : integer(value, name, min, max);
}

export function u32(value: unknown, name: string): number {
  return integer(value, name, 0, U32);
}

export function number(value: unknown, name: string): number {
  if (typeof value !== 'number') throw invalidType(name, 'of type number', value);
  return value;
}

/** A copy, so that what the program changes afterwards, or shares, is not looked at. */
export function keys(value: unknown, name: string, most = MOST_KEYS): Uint32Array {
  if (types.isUint32Array(value)) {
    if (isGone(value)) throw invalidValue(name, 'must not be detached', value);
    integer(value.length, `${name}.length`, 0, most);
    return new Uint32Array(value);
  }
  if (!Array.isArray(value)) throw invalidType(name, 'a Uint32Array or an array of keys', value);
  const all = value as readonly unknown[];
  // A Proxy says what it likes.
  const copy = new Uint32Array(integer(all.length, `${name}.length`, 0, most));
  for (let i = 0; i < copy.length; i++) {
    const key = all[i];
    copy[i] = typeof key === 'number' && key >>> 0 === key ? key : u32(key, `${name}[${i}]`);
  }
  return copy;
}

export function string(value: unknown, name: string): string {
  if (typeof value !== 'string') throw invalidType(name, 'of type string', value);
  return value;
}

export function boolean(value: unknown, name: string): boolean {
  if (typeof value !== 'boolean') throw invalidType(name, 'of type boolean', value);
  return value;
}

/** One that may be left out. */
export function flag(value: unknown, name: string): boolean {
  return value === undefined ? false : boolean(value, name);
}

export function list(value: unknown, name: string): void {
  if (!Array.isArray(value)) throw invalidType(name, 'an instance of Array', value);
}

export function callback(value: unknown, name: string): void {
  if (typeof value !== 'function') throw invalidType(name, 'of type function', value);
}

/** A function that is done when it returns; `reason`: why that matters. */
export function synchronous(value: unknown, name: string, reason: string): void {
  callback(value, name);
  if (types.isAsyncFunction(value)) {
    throw invalidValue(name, `must not be an async function: ${reason}`, value);
  }
  noGenerator(value, name);
}

export function isThenable(value: unknown): boolean {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function';
}

export function isGenerator(value: unknown): value is Generator {
  if (typeof value !== 'object' || value === null) return false;
  const generator = value as Partial<Generator>;
  const steps = typeof generator.next === 'function' && typeof generator.return === 'function';
  // One of an async function*, whose steps are promises, is none.
  return steps && typeof generator[Symbol.iterator] === 'function';
}

/** Whose body would never run: calling it makes an object, and nobody asks that for anything. */
export function noGenerator(value: unknown, name: string): void {
  if (types.isGeneratorFunction(value)) {
    throw invalidValue(name, 'must not be a generator function, whose body would not run', value);
  }
}

/** What `node:net` and `node:fs` take, and would never be called here. */
export function noCallback(given: readonly unknown[], call: string): void {
  const found = given.find((value) => typeof value === 'function');
  if (found !== undefined) throw invalidType('callback', `undefined: use await ${call}`, found);
}

/** Options that can't be left out. */
export function given(value: unknown): void {
  if (value === undefined) throw invalidType('options', 'of type object', value);
  options(value);
}

export function options(value: unknown, name = 'options'): void {
  if (value !== undefined) objectOf(value, name);
}

/** One whose names are the program's own. */
export function object(value: unknown, name: string): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidType(name, 'of type object', value);
  }
}

function objectOf(value: unknown, name: string): void {
  object(value, name);
  // It has no names of its own, and so none that would be unknown.
  if ('aborted' in (value as object)) throw invalidType(name, 'of the form { signal }', value);
}

/** Throws for an option that there is not: a misspelt one would be silently without effect. */
export function known(options: object, name: string, names: readonly string[]): void {
  for (const [key, value] of Object.entries(options)) {
    if (names.includes(key)) continue;
    throw invalidValue(`${name}.${key}`, `is unknown: there are ${names.join(', ')}`, value);
  }
}

/**
 * The same for options that name a place of the network. What `address()` answers has other names, as
 * Node.js's has: the text says how to write it.
 */
export function knownOfPlace(options: unknown, names: readonly string[]): void {
  if (typeof options === 'number' || typeof options === 'string') {
    // As node:net takes them.
    const port = typeof options === 'number' || /^\d+$/.test(options);
    throw invalidType(
      'options',
      `of type object: ${shown(port ? { port: Number(options) } : { path: options })}`,
      options,
    );
  }
  given(options);
  const { address, family, port, hostname } = options as Readonly<Record<string, unknown>>;
  if (typeof address === 'string') {
    const path = family === 'unix';
    const anywhere = address === '::' || address === '0.0.0.0';
    const place = path ? { path: address } : anywhere ? { port } : { host: address, port };
    throw invalidValue('options.address', `is unknown: write ${shown(place)}`, address);
  }
  if (typeof hostname === 'string') {
    throw invalidValue('options.hostname', `is unknown: write host: ${shown(hostname)}`, hostname);
  }
  known(options as object, 'options', names);
}

/**
 * The same for options of one operation, which may be left out. Nothing is allocated: V8 goes over
 * the names that it knows of the object's shape.
 */
export function knownOf(options: object | undefined, names: readonly string[]): void {
  if (options === undefined) return;
  objectOf(options, 'options');
  for (const name in options) {
    if (!isAmong(names, name) && Object.hasOwn(options, name)) known(options, 'options', names);
  }
}

/** V8 compares names by their addresses here, where `includes` is a call. */
function isAmong(names: readonly string[], name: string): boolean {
  for (let i = 0; i < names.length; i++) if (names[i] === name) return true;
  return false;
}

export function oneOf<T>(value: T, name: string, allowed: readonly T[]): T {
  if (allowed.includes(value)) return value;
  throw invalidValue(name, `must be one of: ${allowed.map((a) => inspect(a)).join(', ')}`, value);
}

export function encoding(value: unknown, name: string): BufferEncoding {
  if (typeof value === 'string' && Buffer.isEncoding(value)) return value;
  throw invalidValue(name, 'is not an encoding', value);
}

export function signal(value: unknown): AbortSignal | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'object' || value === null || !('aborted' in value)) {
    throw invalidType('options.signal', 'an instance of AbortSignal', value);
  }
  // One of a polyfill may be no instance of the class.
  if (typeof (value as Partial<AbortSignal>).addEventListener !== 'function') {
    throw invalidType('options.signal', 'an instance of AbortSignal', value);
  }
  return value as AbortSignal;
}

/** Milliseconds for the native side, where 0 means none. */
export function timeout(value: unknown, name = 'options.timeout'): number {
  if (value === undefined || value === Infinity) return 0;
  if (typeof value !== 'number') throw invalidType(name, 'of type number', value);
  if (!(value >= 0 && value <= U32)) throw outOfRange(name, `>= 0 && <= ${U32}`, value);
  return Math.ceil(value);
}

/** Permission bits: a number, or octal digits, as node:fs takes them. */
export function fileMode(value: unknown, name: string): number {
  if (typeof value !== 'string') return u32(value, name);
  if (/^[0-7]+$/.test(value)) return u32(parseInt(value, 8), name);
  throw invalidValue(name, 'must be a 32-bit unsigned integer or an octal string', value);
}

/** A user or group as the kernel has it, where -1 leaves it as it is. */
export function owner(value: unknown, name: string): number {
  return integer(value, name, -1, U32) >>> 0;
}

/** Microseconds since 1970: of seconds, also as a string, or of a Date, as node:fs takes them. */
export function fileTime(value: unknown, name: string): number {
  const seconds = value instanceof Date ? value.getTime() / 1000 : secondsOf(value);
  if (seconds === undefined) throw invalidType(name, 'a Date or a time in seconds', value);
  // The range of a Date.
  if (Math.abs(seconds) <= 8.64e12) return Math.round(seconds * 1e6);
  throw outOfRange(name, '>= -8.64e12 && <= 8.64e12 seconds since 1970', value);
}

function secondsOf(value: unknown): number | undefined {
  if (typeof value === 'number') return value;
  if (typeof value !== 'string' || value.trim() === '') return undefined;
  const seconds = Number(value);
  return Number.isNaN(seconds) ? undefined : seconds;
}

/** A position in a file; undefined: none was given. */
export function position(value: unknown, name = 'position'): number | undefined {
  if (value === undefined || value === null) return undefined;
  const plain = typeof value === 'bigint' ? Number(value) : value;
  return integer(plain, name, 0, Number.MAX_SAFE_INTEGER);
}

/** What is posted in the place of undefined: 0 where nothing is given, not where a value was forgotten. */
export function leftOut(nothing: boolean): 0 {
  if (nothing) return 0;
  throw invalidType('message', 'a message, or left out, which is 0', undefined);
}

export function message<M>(given: readonly [] | readonly [message: M]): M | 0 {
  return given[0] === undefined ? leftOut(given.length === 0) : given[0];
}

export function view(value: unknown, name: string): ArrayBufferView {
  if (ArrayBuffer.isView(value)) return value;
  throw invalidType(name, 'an instance of Buffer, TypedArray, or DataView', value);
}

export function tcpPort(value: unknown, name: string): number {
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  return integer(number, name, 0, 65535);
}

/** Or a list of them. */
export function data(value: unknown, name: string): void {
  if (!Array.isArray(value)) return bytes(value, name);
  for (const part of value as readonly unknown[]) bytes(part, name);
}

export function bytes(value: unknown, name: string): void {
  if (typeof value === 'string' || ArrayBuffer.isView(value)) return;
  throw invalidType(
    name,
    'of type string or an instance of Buffer, TypedArray, or DataView',
    value,
  );
}

export function maxConnections(value: unknown, name: string): number {
  return value === Infinity ? Infinity : integer(value, name, 0, U32 - 1);
}

export function highWaterMark(value: unknown, name: string): number {
  return integer(value, name, 1, 2 ** 32 - 1);
}

/** Milliseconds before the first probe; Linux takes at most 32,767 seconds (MAX_TCP_KEEPIDLE). */
export function keepAlive(value: unknown, name: string): number {
  return integer(value, name, 0, 32_767_000);
}
