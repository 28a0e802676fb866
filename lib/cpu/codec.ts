/**
 * Values in memory that threads share. Numbers, strings, bytes and the like are written as they
 * are, which takes a tenth of what V8's serializer does; everything else goes through that, and
 * what it does not know through a MessagePort.
 */
import { DefaultSerializer, deserialize } from 'node:v8';
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';

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
  | {
      readonly form: Form.Message;
      readonly values: readonly unknown[];
      readonly list: readonly object[];
    };

/** V8's serializer would copy what is shared. */
class Serializer extends DefaultSerializer {
  _writeHostObject(value: object): void {
    if (ArrayBuffer.isView(value) && !(value.buffer instanceof ArrayBuffer)) {
      throw new TypeError('Shared memory goes as a message');
    }
    const own = DefaultSerializer.prototype as unknown as { _writeHostObject(value: object): void };
    own._writeHostObject.call(this, value);
  }
}

function serialize(values: readonly unknown[]): Buffer {
  const serializer = new Serializer();
  serializer.writeHeader();
  serializer.writeValue(values);
  return serializer.releaseBuffer();
}

const moved = new WeakMap<object, readonly object[]>();

/** Remembers what goes with `value` instead of being copied. */
export function transferWith(value: object, list: readonly object[]): void {
  moved.set(value, list);
}

function listOf(values: readonly unknown[]): object[] | undefined {
  let all: object[] | undefined;
  for (const value of values) {
    if (typeof value !== 'object' || value === null) continue;
    const list = moved.get(value);
    if (list === undefined) continue;
    all = [...(all ?? []), ...list];
    moved.delete(value);
  }
  return all;
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
      return isBytes(value) ? 5 + value.length : -1;
    default:
      return -1;
  }
}

function isBytes(value: object): value is Uint8Array {
  const prototype = Object.getPrototypeOf(value) as unknown;
  if (prototype !== Uint8Array.prototype && prototype !== Buffer.prototype) return false;
  return (value as Uint8Array).buffer instanceof ArrayBuffer;
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
export type ToMessage = (values: readonly unknown[], list: readonly object[]) => Frozen;

/**
 * The values as they are now, but for bytes: `detach` copies those. Throws what `toMessage` does.
 */
export function freeze(values: readonly unknown[], toMessage: ToMessage): Frozen {
  const list = listOf(values);
  if (list !== undefined) return toMessage(values, list);
  const size = plainSize(values);
  if (size >= 0) return { form: Form.Plain, values, size };
  try {
    const bytes = serialize(values);
    return { form: Form.Serialized, bytes, size: bytes.length };
  } catch {
    return toMessage(values, []);
  }
}

/** They go out later: what the program changes meanwhile is not to be seen. */
export function detach(frozen: Frozen): Frozen {
  if (frozen.form !== Form.Plain) return frozen;
  const values = frozen.values.map((value) => {
    if (typeof value !== 'object' || value === null) return value;
    return Buffer.isBuffer(value) ? Buffer.from(value) : (value as Uint8Array).slice();
  });
  return { form: Form.Plain, values, size: frozen.size };
}

/** `structuredClone` of Node.js 20 makes a channel each time, which takes longer than all the rest. */
class Cloner {
  private channel: MessageChannel | undefined = undefined;

  of<T>(value: T, list: readonly object[]): T {
    const { port1, port2 } = (this.channel ??= new MessageChannel());
    port1.unref();
    port2.unref();
    port1.postMessage(value, [...list] as never);
    return (receiveMessageOnPort(port2) as { message: T }).message;
  }
}
const clones = new Cloner();

/** Clones them now, and moves what is transferred. */
export const cloned: ToMessage = (values, list) => {
  const clone = clones.of({ values, list }, list);
  return { form: Form.Message, values: clone.values, list: clone.list };
};

/** They are posted at once. */
export const asTheyAre: ToMessage = (values, list) => ({ form: Form.Message, values, list });

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
      return deserialize(own) as unknown[];
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
    this.bytes[at] = Buffer.isBuffer(value) ? Tag.Buffer : Tag.Bytes;
    this.view.setUint32(at + 1, value.length, true);
    this.bytes.set(value, at + 5);
    return at + 5 + value.length;
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
