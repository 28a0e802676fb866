/**
 * Values in memory that threads share. Numbers, strings, bytes and the like are written as they
 * are, which takes a tenth of what V8's serializer does; everything else goes through that, and
 * what it does not know through a MessagePort.
 */
import { types } from 'node:util';
import type { DefaultDeserializer, DefaultSerializer } from 'node:v8';
import { hasOneSize, lengthOf } from './bytes';
import { hasSerializer } from './runtime';
import { isGone } from './validate';

/** How the values of a task lie in its place. */
export const enum Form {
  /** One after the other, each behind its tag. */
  Plain = 0,
  /** As V8 serializes an array of them. */
  Serialized = 1,
  /** They are in a message. */
  Message = 2,
}

const enum Tag {
  Undefined,
  Null,
  False,
  True,
  Number,
  /** One byte for each character, all below 128. */
  Ascii,
  /** Two. */
  Text,
  Bytes,
  Buffer,
}

const MOST_VALUES = 255;
/** Characters that are looked at and written one by one: to call native code takes longer. */
const SHORT = 24;

/** Values as they were when the task was called, or had ended. */
export type Frozen =
  | { readonly form: Form.Plain; readonly values: readonly unknown[]; readonly size: number }
  | { readonly form: Form.Serialized; readonly bytes: Buffer; readonly size: number }
  | ({ readonly form: Form.Message } & ToMove);

/** Values of a message, and where those are that a message makes Uint8Arrays of. */
export interface Moved {
  readonly values: readonly unknown[];
  readonly buffers: readonly number[];
}

/** And what goes with it. */
export interface ToMove extends Moved {
  readonly list: readonly object[];
}

let Serializer: typeof DefaultSerializer | undefined;

/** Made when a value first needs it, since node:v8 brings node:stream with it. */
function serializer(): DefaultSerializer {
  if (Serializer === undefined) {
    const Plain = process.getBuiltinModule('node:v8').DefaultSerializer;
    const own = Plain.prototype as unknown as { _writeHostObject(value: object): void };
    // It would copy what is shared.
    Serializer = class extends Plain {
      _writeHostObject(value: object): void {
        if (ArrayBuffer.isView(value) && types.isSharedArrayBuffer(value.buffer)) {
          throw new TypeError('Shared memory goes as a message');
        }
        own._writeHostObject.call(this, value);
      }
    };
  }
  return new Serializer();
}

function serialize(values: readonly unknown[]): Buffer {
  if (!hasSerializer) return process.getBuiltinModule('node:v8').serialize(values);
  const writer = serializer();
  writer.writeHeader();
  writer.writeValue(values);
  return writer.releaseBuffer();
}

const moved = new WeakMap<object, readonly object[]>();

/** Remembers what goes with `value` instead of being copied. */
export function transferWith(value: object, list: readonly object[]): void {
  moved.set(value, list);
}

/** Forgets that: where it goes from now on, it is copied. */
export function transferNothing(value: unknown): void {
  if (typeof value === 'object' && value !== null) moved.delete(value);
}

function listOf(values: readonly unknown[]): object[] | undefined {
  let all: object[] | undefined;
  for (const value of values) {
    if (typeof value !== 'object' || value === null) continue;
    const list = moved.get(value);
    if (list === undefined) continue;
    for (const one of list) if (types.isArrayBuffer(one)) assertThere(one);
    all = [...(all ?? []), ...list];
    moved.delete(value);
  }
  return all;
}

/**
 * Bytes go without the memory around them, unless that is transferred. Small Buffers lie in memory
 * that Node.js gives to many, and does not let go of: `postMessage` refuses it, and on Node.js 20
 * copies all of it.
 */
function alone(
  values: readonly unknown[],
  list: readonly object[],
): [values: readonly unknown[], list: readonly object[]] {
  const pools = new Set<unknown>();
  const own = values.map((value) => {
    if (typeof value !== 'object' || value === null || !isBytes(value)) return value;
    const { buffer } = value;
    const moves = list.includes(buffer);
    const pooled = moves && Buffer.isBuffer(value) && isPool(value);
    if (pooled) pools.add(buffer);
    const whole = lengthOf(value) === buffer.byteLength;
    return pooled || (!moves && !whole) ? copied(value) : value;
  });
  return [own, list.filter((one) => !pools.has(one))];
}

/** From Node.js 21 on it tells. */
type Tells = { readonly isMarkedAsUntransferable?: (object: object) => boolean };

function isPool({ buffer, byteLength }: Buffer): boolean {
  const workers: object = process.getBuiltinModule('node:worker_threads');
  const { isMarkedAsUntransferable } = workers as Tells;
  if (isMarkedAsUntransferable !== undefined) return isMarkedAsUntransferable(buffer);
  return buffer.byteLength === Buffer.poolSize && byteLength < Buffer.poolSize / 2;
}

/** A list with memory that is gone is sent all the same, and it is the receiver that fails. */
function assertThere(memory: ArrayBuffer): void {
  try {
    new Uint8Array(memory);
  } catch {
    throw new DOMException('An ArrayBuffer of the list was transferred before', 'DataCloneError');
  }
}

/** Bytes it takes at most; -1: it is not written as it is. */
function sizeOf(value: unknown): number {
  switch (typeof value) {
    case 'number':
      return 9;
    case 'string':
      return 5 + 2 * value.length;
    case 'undefined':
    case 'boolean':
      return 1;
    case 'object':
      if (value === null) return 1;
      return isBytes(value) ? 5 + lengthOf(value) : -1;
    default:
      return -1;
  }
}

/** Whether it is written as it is: a Uint8Array, or Buffer, of memory that is neither shared nor gone. */
export function isBytes(value: object): value is Uint8Array {
  const prototype = Object.getPrototypeOf(value) as unknown;
  if (prototype !== Uint8Array.prototype && prototype !== Buffer.prototype) return false;
  const view = value as Uint8Array;
  // What is shared, or may grow, may have another size by the time it is written.
  if (!hasOneSize(view)) return false;
  // Of what is gone the serializer says so, in words that name the task.
  return lengthOf(view) > 0 || !isGone(view);
}

function plainSize(values: readonly unknown[]): number {
  if (values.length > MOST_VALUES) return -1;
  let size = 1;
  for (const value of values) {
    const one = sizeOf(value);
    if (one < 0) return -1;
    size += one;
  }
  return size;
}

/** How values become those of a message. */
export type ToMessage<T extends Frozen = Frozen> = (
  values: readonly unknown[],
  list: readonly object[],
) => T;

/**
 * The values as they are now, but for bytes: `detach` copies those. Throws what `toMessage` does.
 */
export function freeze<T extends Frozen>(
  values: readonly unknown[],
  toMessage: ToMessage<T>,
): Frozen | T {
  const list = listOf(values);
  if (list !== undefined) return toMessage(...alone(values, list));
  const size = plainSize(values);
  if (size >= 0) return { form: Form.Plain, values, size };
  try {
    const bytes = serialize(values);
    return { form: Form.Serialized, bytes, size: bytes.length };
  } catch {
    return toMessage(...alone(values, []));
  }
}

/** They go out later: what the program changes meanwhile is not to be seen. */
export function detach(frozen: Frozen): Frozen {
  if (frozen.form !== Form.Plain) return frozen;
  return { form: Form.Plain, values: frozen.values.map(copied), size: frozen.size };
}

/** With memory of its own, which is not zeroed first: small Buffers would share theirs with others. */
function copied(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const bytes = value as Uint8Array;
  const copy = Buffer.allocUnsafeSlow(lengthOf(bytes));
  copy.set(bytes);
  return Buffer.isBuffer(bytes) ? copy : new Uint8Array(copy.buffer);
}

/** Copies of the values, whose memory is to go with the message instead of being copied again. */
export function move({ values }: Extract<Frozen, { form: Form.Plain }>): ToMove {
  const copies = values.map(copied);
  const list = copies.filter(isView).map((bytes) => bytes.buffer);
  return { values: copies, buffers: buffersIn(copies), list };
}

/** Where Buffers are among the values. */
export function buffersIn(values: readonly unknown[]): number[] {
  return [...values.keys()].filter((i) => Buffer.isBuffer(values[i]));
}

function isView(value: unknown): value is Uint8Array<ArrayBuffer> {
  return typeof value === 'object' && value !== null;
}

/** The values as they were given, from the message. One that is there twice is one. */
export function revive({ values, buffers }: Moved): readonly unknown[] {
  if (buffers.length === 0) return values;
  const made = new Map<unknown, Buffer>();
  for (const i of buffers) made.set(values[i], asBuffer(values[i] as Uint8Array));
  return values.map((value) => made.get(value) ?? value);
}

function asBuffer({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

/** They are posted at once. */
export const asTheyAre: ToMessage = (values, list) => ({
  ...{ form: Form.Message, values, list },
  buffers: buffersIn(values),
});

let Deserializer: typeof DefaultDeserializer | undefined;

function deserializer(bytes: Buffer): DefaultDeserializer {
  if (Deserializer === undefined) {
    const Plain = process.getBuiltinModule('node:v8').DefaultDeserializer;
    const own = Plain.prototype as unknown as { _readHostObject(): ArrayBufferView };
    // It gives views of `bytes`, or of the memory that small Buffers of the program's share.
    Deserializer = class extends Plain {
      _readHostObject(): ArrayBufferView {
        return withMemoryOfItsOwn(own._readHostObject.call(this));
      }
    };
  }
  return new Deserializer(bytes);
}

function withMemoryOfItsOwn(view: ArrayBufferView): ArrayBufferView {
  const { buffer, byteOffset, byteLength } = view;
  const memory = new Uint8Array(buffer, byteOffset, byteLength).slice().buffer;
  if (Buffer.isBuffer(view)) return Buffer.from(memory);
  const View = view.constructor as new (memory: ArrayBufferLike) => ArrayBufferView;
  return new View(memory);
}

/** Values that were frozen as `Form.Serialized`. */
export function deserialize(bytes: Buffer): unknown[] {
  if (!hasSerializer) {
    return process.getBuiltinModule('node:v8').deserialize(bytes) as unknown[];
  }
  const reader = deserializer(bytes);
  reader.readHeader();
  return reader.readValue() as unknown[];
}

/** Whether V8's serializer takes it. */
export function canClone(value: unknown): boolean {
  try {
    return freeze([value], asTheyAre).form !== Form.Message;
  } catch {
    return false;
  }
}

/** What `freeze` or `postMessage` has thrown, as a DataCloneError that names `who`. */
export function cannotClone(error: unknown, who: string): unknown {
  const { name, code, message } = error as NodeJS.ErrnoException;
  // Node.js's own error for what can only be transferred.
  if (name !== 'DataCloneError' && !/MISSING_TRANSFER/.test(code ?? '')) return error;
  const text = `${who}: ${message}`;
  return new DOMException(text, { name: 'DataCloneError', cause: error } as never);
}

function isAscii(text: string): boolean {
  if (text.length > SHORT) return Buffer.byteLength(text) === text.length;
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return false;
  return true;
}

/** A range of memory in which values lie. */
export class Area {
  readonly bytes: Buffer;
  private readonly view: DataView;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Writes values from `at` on; the number of bytes. */
  write(frozen: Frozen, at: number): number {
    if (frozen.form === Form.Message) return 0;
    if (frozen.form === Form.Serialized) {
      this.bytes.set(frozen.bytes, at);
      return frozen.size;
    }
    const { values } = frozen;
    this.bytes[at] = values.length;
    let end = at + 1;
    for (const value of values) end = this.writeOne(value, end);
    return end - at;
  }

  /** The values that `write` wrote. What of them has bytes has its own. */
  read(form: Form, at: number, length: number): unknown[] {
    if (form === Form.Serialized) {
      // Typed arrays that it finds are views of what it is given.
      const own = Buffer.allocUnsafeSlow(length);
      own.set(this.bytes.subarray(at, at + length));
      return deserialize(own);
    }
    const values = new Array<unknown>(this.bytes[at]!);
    this.place = at + 1;
    for (let i = 0; i < values.length; i++) values[i] = this.readOne();
    return values;
  }

  /** Where `readOne` goes on. */
  private place = 0;

  private writeOne(value: unknown, at: number): number {
    const { bytes, view } = this;
    switch (typeof value) {
      case 'number':
        bytes[at] = Tag.Number;
        view.setFloat64(at + 1, value, true);
        return at + 9;
      case 'string':
        return this.writeText(value, at);
      case 'boolean':
        bytes[at] = value ? Tag.True : Tag.False;
        return at + 1;
      case 'undefined':
        bytes[at] = Tag.Undefined;
        return at + 1;
      default:
        if (value !== null) return this.writeBytes(value as Uint8Array, at);
        bytes[at] = Tag.Null;
        return at + 1;
    }
  }

  private writeText(text: string, at: number): number {
    const { bytes, view } = this;
    const { length } = text;
    const ascii = isAscii(text);
    const from = at + 5;
    const size = ascii ? length : 2 * length;
    bytes[at] = ascii ? Tag.Ascii : Tag.Text;
    view.setUint32(at + 1, size, true);
    if (!ascii) bytes.write(text, from, size, 'utf16le');
    else if (length > SHORT) bytes.write(text, from, size, 'latin1');
    else for (let i = 0; i < length; i++) bytes[from + i] = text.charCodeAt(i);
    return from + size;
  }

  private writeBytes(value: Uint8Array, at: number): number {
    const length = lengthOf(value);
    this.bytes[at] = Buffer.isBuffer(value) ? Tag.Buffer : Tag.Bytes;
    this.view.setUint32(at + 1, length, true);
    this.bytes.set(value, at + 5);
    return at + 5 + length;
  }

  private readOne(): unknown {
    const { bytes } = this;
    const tag = bytes[this.place++] as Tag;
    switch (tag) {
      case Tag.Undefined:
        return undefined;
      case Tag.Null:
        return null;
      case Tag.False:
      case Tag.True:
        return tag === Tag.True;
      case Tag.Number:
        this.place += 8;
        return this.view.getFloat64(this.place - 8, true);
      default:
        return this.readSized(tag);
    }
  }

  private readSized(tag: Tag): unknown {
    const { bytes } = this;
    const length = this.view.getUint32(this.place, true);
    const from = this.place + 4;
    const end = from + length;
    this.place = end;
    if (tag === Tag.Ascii) return bytes.toString('latin1', from, end);
    if (tag === Tag.Text) return bytes.toString('utf16le', from, end);
    const own = tag === Tag.Buffer ? Buffer.allocUnsafeSlow(length) : fresh(length);
    own.set(bytes.subarray(from, end));
    return own;
  }
}

/** Bytes that are not cleared first, since all of them are written. */
function fresh(length: number): Uint8Array {
  return new Uint8Array(Buffer.allocUnsafeSlow(length).buffer, 0, length);
}
