/**
 * The record table as a thread sees it: the header that each record begins with, and the accessors
 * for the fields that follow. The memory is native and the same in each thread; whoever holds a
 * record's key may write to it (rule D8), anyone may look.
 */
import { coded, type CodedError } from '../../support/errors';
import * as validate from '../../support/validate';
import { TEXT_PREFIX, type Field, type Layout } from '../definition/fields';

/** The header of a record. Offsets in bytes. native/stage/record_table.h asserts the same. */
export const enum Header {
  SIZE = 80,
  /** u32, the key of the connection: 20 bits of index, 12 of generation; 0: the record is free */
  NAME = 0,
  /** u32, id of the port it is at */
  PORT = 4,
  /** u64, the socket; 0: a task */
  HANDLE = 8,
  /** u8, index of the stage it is at; NONE: accepted, and not begun */
  STAGE = 16,
  /** u8, index of its state, with IN_TRANSIT until its stage has begun it; NONE: the initial one */
  STATE = 17,
  /** u8, RecordFlag */
  FLAGS = 18,
  /** u8, index of the stage it came from; NONE: from none */
  FROM = 19,
  /** u32, documents it has brought so far */
  NUMBER = 20,
  /** f64, milliseconds on the monotonic clock; 0: none; EXPIRED */
  DEADLINE = 24,
  /** f64, since when it has been in its state, on the same clock */
  SINCE = 32,
  /** u32, NO_CHUNK: it has no bytes, or was lost; u64 with DocumentInFile: the handle of its file */
  DOCUMENT_CHUNK = 40,
  /** u32; without a chunk the error's number that kept the document from being kept, 0: none */
  DOCUMENT_START = 44,
  /** f64, bytes */
  DOCUMENT_LENGTH = 48,
  /** f64, bytes received since it was accepted */
  RECEIVED = 56,
  /** u32, bytes that arrived and nobody wanted yet */
  STASHED = 64,
  /** u32, when the deadline is looked at next, in ticks: see `setDeadline`; 0: never */
  WATCHED = 68,
  /** u32, of STASHED, in front: what `unread` gave back, which waits for what follows it */
  HELD = 72,
  /** u8, not 0: others wait until its document is begun */
  TAKES_TURN = 76,
}

export const enum RecordFlag {
  /** A close is under way: nothing but `closed` comes. */
  Closing = 1,
  /** A receive is in flight. */
  Receiving = 2,
  /** A receive failed: nothing is received any more. What follows a reset would look like an end. */
  Broken = 4,
  HasDocument = 8,
  DocumentInFile = 16,
  /** Something was sent: it may still be on its way to the kernel. */
  Sent = 32,
  /** The peer sends no more. */
  Ended = 64,
  /** `ended` was called for that. */
  EndTold = 128,
}

/** No stage, no state. */
export const NONE = 0xff;
/** In STATE: handed to a stage that has not begun it yet. */
export const IN_TRANSIT = 0x80;
/** In DEADLINE: it has passed, and the packet that says so is on its way. */
export const EXPIRED = -1;
/** The key of the listeners of every port; no record has that name. */
export const LISTENER = 0xffffffff;
/** The bits of a key that are the record's index. */
export const INDEX = 0xfffff;

/** A connection that is gone, or a Connection object that is used after its handler. */
export function connectionReleased(): CodedError {
  return coded(
    new Error('The connection is no longer the one of this handler'),
    'ERR_CONNECTION_RELEASED',
  );
}

/** Views of the record table's memory. */
export class Records {
  readonly stride: number;
  readonly limit: number;
  readonly memory: ArrayBuffer;
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  readonly numbers: Float64Array;

  constructor(memory: ArrayBuffer, stride: number) {
    this.memory = memory;
    this.stride = stride;
    this.limit = Math.floor(memory.byteLength / stride);
    this.bytes = new Uint8Array(memory);
    this.words = new Uint32Array(memory);
    this.numbers = new Float64Array(memory);
  }

  /** Where the record that `key` names, or named, begins; -1 when no key is like that. */
  offset(key: number): number {
    const index = key & INDEX;
    return index < this.limit ? index * this.stride : -1;
  }

  /** Whether there is a connection of that name. */
  live(key: number): boolean {
    const at = this.offset(key);
    return key !== 0 && at >= 0 && this.words[at >>> 2] === key;
  }
}

/** The key the record has to have; -1: none has. Strings are names of fields. */
const KEY = Symbol('key');
/** Where the record begins. */
const AT = Symbol('at');

/**
 * The fields of one record; the properties are those of a layout: `recordClass`.
 */
export abstract class RecordView {
  /** @internal */
  [KEY]: number;
  /** @internal */
  [AT]: number;

  constructor(key: number, at: number) {
    this[KEY] = key;
    this[AT] = at;
  }

  /** The fields; a `u64` as a string, which JSON has no number for. */
  toJSON(): object {
    if (this[KEY] < 0) return { released: true };
    const names = Object.keys(Object.getPrototypeOf(this) as object) as (keyof this)[];
    const fields = names.map((name) => [name, plain(this[name])] as const);
    return Object.fromEntries(fields);
  }
}

/** What reads or writes it afterwards throws. */
export function releaseView(view: RecordView): void {
  view[KEY] = -1;
}

function plain(value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}

/**
 * Behind the fields: what is written under another name, a misspelt one, would be lost with the
 * object. Fields are found before this is looked at, so that they cost no more.
 */
const refusesOthers: ProxyHandler<object> = {
  set(_target, name, value, record: object) {
    if (typeof name === 'symbol') return Reflect.defineProperty(record, name, { value });
    const fields = Object.keys(Object.getPrototypeOf(record) as object);
    const known = fields.length > 0 ? fields.join(', ') : 'none';
    const text = `The record has no field '${name}'. Its fields: ${known}`;
    throw coded(new TypeError(text), 'ERR_INVALID_ARG_VALUE');
  },
};
Object.setPrototypeOf(RecordView.prototype, new Proxy(Object.prototype, refusesOthers));

export type RecordClass = new (key: number, at: number) => RecordView;

/**
 * A class with an accessor for each of `names`, or for all fields. The class has one map for the
 * whole thread, so that engines inline the accessors.
 */
export function recordClass(
  records: Records,
  layout: Layout,
  names?: readonly string[],
): RecordClass {
  class View extends RecordView {}
  for (const field of layout.fields) {
    if (names !== undefined && !names.includes(field.name)) continue;
    Object.defineProperty(View.prototype, field.name, {
      ...accessor(records, field),
      enumerable: true,
    });
  }
  return View;
}

interface Accessor {
  get(this: RecordView): unknown;
  set(this: RecordView, value: never): void;
}

function accessor(records: Records, field: Field): Accessor {
  switch (field.type) {
    case 'u8':
      return integers(records, field, new Uint8Array(records.memory), 0, 0xff);
    case 'i8':
      return integers(records, field, new Int8Array(records.memory), -0x80, 0x7f);
    case 'u16':
      return integers(records, field, new Uint16Array(records.memory), 0, 0xffff);
    case 'i16':
      return integers(records, field, new Int16Array(records.memory), -0x8000, 0x7fff);
    case 'u32':
      return integers(records, field, records.words, 0, 0xffffffff);
    case 'i32':
      return integers(records, field, new Int32Array(records.memory), -0x80000000, 0x7fffffff);
    case 'f32':
      return floats(records, field, new Float32Array(records.memory));
    case 'f64':
      return floats(records, field, records.numbers);
    case 'u64':
      return bigIntegers(records, field);
    case 'bool':
      return booleans(records, field);
    default:
      return field.type.startsWith('utf8') ? texts(records, field) : memories(records, field);
  }
}

type Integers = Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array;

function shiftOf(array: Integers | Float32Array | Float64Array): number {
  return Math.log2(array.BYTES_PER_ELEMENT);
}

// The check of the key stands in each accessor of numbers: as a call it would cost more than the rest.

/** Throws when the record is no longer that connection's. */
function assertCurrent(words: Uint32Array, view: RecordView): void {
  if (words[view[AT] >>> 2] !== view[KEY]) throw connectionReleased();
}

function integers(
  { words }: Records,
  { name, offset }: Field,
  array: Integers,
  min: number,
  max: number,
): Accessor {
  const shift = shiftOf(array);
  return {
    get() {
      if (words[this[AT] >>> 2] !== this[KEY]) throw connectionReleased();
      return array[(this[AT] + offset) >>> shift];
    },
    set(value: number) {
      if (words[this[AT] >>> 2] !== this[KEY]) throw connectionReleased();
      if (!(value >= min && value <= max) || !Number.isInteger(value)) {
        validate.integer(value, `record.${name}`, min, max);
      }
      array[(this[AT] + offset) >>> shift] = value;
    },
  };
}

function floats(
  { words }: Records,
  { name, offset }: Field,
  array: Float32Array | Float64Array,
): Accessor {
  const shift = shiftOf(array);
  return {
    get() {
      if (words[this[AT] >>> 2] !== this[KEY]) throw connectionReleased();
      return array[(this[AT] + offset) >>> shift];
    },
    set(value: number) {
      if (words[this[AT] >>> 2] !== this[KEY]) throw connectionReleased();
      array[(this[AT] + offset) >>> shift] = validate.number(value, `record.${name}`);
    },
  };
}

function bigIntegers({ words, memory }: Records, { name, offset }: Field): Accessor {
  const array = new BigUint64Array(memory);
  return {
    get() {
      if (words[this[AT] >>> 2] !== this[KEY]) throw connectionReleased();
      return array[(this[AT] + offset) >>> 3];
    },
    set(value: bigint) {
      assertCurrent(words, this);
      if (typeof value !== 'bigint') {
        throw validate.invalidType(`record.${name}`, 'of type bigint', value);
      }
      if (value < 0n || value >= 1n << 64n) {
        throw validate.outOfRange(`record.${name}`, '>= 0n && < 2n ** 64n', value);
      }
      array[(this[AT] + offset) >>> 3] = value;
    },
  };
}

function booleans({ words, bytes }: Records, { name, offset }: Field): Accessor {
  return {
    get() {
      if (words[this[AT] >>> 2] !== this[KEY]) throw connectionReleased();
      return bytes[this[AT] + offset] !== 0;
    },
    set(value: boolean) {
      assertCurrent(words, this);
      bytes[this[AT] + offset] = validate.boolean(value, `record.${name}`) ? 1 : 0;
    },
  };
}

function texts({ words, memory }: Records, { name, offset, length }: Field): Accessor {
  const buffer = Buffer.from(memory);
  return {
    get() {
      assertCurrent(words, this);
      const at = this[AT] + offset;
      const start = at + TEXT_PREFIX;
      return buffer.toString('utf8', start, start + Math.min(buffer.readUInt16LE(at), length));
    },
    set(value: string) {
      assertCurrent(words, this);
      const size = Buffer.byteLength(validate.string(value, `record.${name}`));
      if (size > length) {
        throw validate.outOfRange(`record.${name}`, `at most ${length} bytes of UTF-8`, value);
      }
      const at = this[AT] + offset;
      buffer.writeUInt16LE(size, at);
      buffer.write(value, at + TEXT_PREFIX, size);
    },
  };
}

/** Reading gives a view: what is written to it is in the record. */
function memories({ words, memory, bytes }: Records, { name, offset, length }: Field): Accessor {
  return {
    get() {
      assertCurrent(words, this);
      return Buffer.from(memory, this[AT] + offset, length);
    },
    set(value: Uint8Array) {
      assertCurrent(words, this);
      if (!(value instanceof Uint8Array)) {
        throw validate.invalidType(`record.${name}`, 'an instance of Buffer or Uint8Array', value);
      }
      if (value.byteLength > length) {
        throw validate.outOfRange(`record.${name}`, `at most ${length} bytes`, value.byteLength);
      }
      const at = this[AT] + offset;
      bytes.set(value, at);
      bytes.fill(0, at + value.byteLength, at + length);
    },
  };
}
