/**
 * The fields of a record: what a stage may declare, and what the declarations of all stages of a
 * pipeline come to, as one layout.
 */
import { coded } from '../../support/errors';
import * as validate from '../../support/validate';
import type { FieldType, RecordFields } from '../api';

/** One field in its place; a plain value that can be posted to workers. */
export interface Field {
  readonly name: string;
  readonly type: FieldType;
  /** From the beginning of the record, header included. */
  readonly offset: number;
  /** Bytes of text or of memory; 0 for numbers. */
  readonly length: number;
}

/** All fields of a pipeline's records. */
export interface Layout {
  readonly fields: readonly Field[];
  /** Bytes of a record, a multiple of 64. */
  readonly stride: number;
}

/** Bytes before the first field: lib/stage/record/record.ts. */
export const HEADER_SIZE = 80;
const LINE = 64;
/** So that the longest record is no longer than a receive buffer commonly is. */
const MOST_BYTES = 32768;
/** In front of text: its length, u16. */
export const TEXT_PREFIX = 2;

const numbers: Readonly<Record<string, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  u64: 8,
  f32: 4,
  f64: 8,
  bool: 1,
};

interface Shape {
  readonly size: number;
  readonly alignment: number;
  readonly length: number;
}

/** Undefined for what is no type of a field. */
function shapeOf(type: unknown): Shape | undefined {
  if (typeof type !== 'string') return undefined;
  const size = Object.hasOwn(numbers, type) ? numbers[type] : undefined;
  if (size !== undefined) return { size, alignment: size, length: 0 };
  const match = /^(utf8|bytes)\[([1-9]\d{0,4})\]$/.exec(type);
  const length = Number(match?.[2] ?? 0);
  if (length === 0 || length > MOST_BYTES) return undefined;
  if (match![1] === 'bytes') return { size: length, alignment: 1, length };
  return { size: TEXT_PREFIX + length, alignment: 2, length };
}

/** Checks a declaration, whoever wrote it. */
export function checkFields(fields: unknown = {}, name = 'definition.record'): RecordFields {
  validate.object(fields, name);
  for (const [field, type] of Object.entries(fields as object)) {
    if (field === 'toJSON') {
      throw validate.invalidValue(`${name}.toJSON`, 'is what gives JSON the fields', type);
    }
    if (shapeOf(type) !== undefined) continue;
    throw validate.invalidValue(
      `${name}.${field}`,
      "must be one of u8, i8, u16, i16, u32, i32, u64, f32, f64, bool, 'utf8[N]', 'bytes[N]'",
      type,
    );
  }
  return fields as RecordFields;
}

/** What one stage declared. */
export interface Declaration {
  readonly stage: string;
  readonly fields: RecordFields;
}

/**
 * The layout in which the fields of all stages have their place: equal names are one field, the
 * largest alignment comes first. `ERR_STAGE_RECORD` when two stages declare a name differently.
 */
export function layOut(declarations: readonly Declaration[]): Layout {
  const known = new Map<string, { type: FieldType; stage: string }>();
  for (const { stage, fields } of declarations) {
    for (const [name, type] of Object.entries(fields)) {
      const before = known.get(name);
      if (before === undefined) known.set(name, { type, stage });
      else if (before.type !== type) throw conflict(name, before, { type, stage });
    }
  }
  const shaped = [...known].map(([name, { type }]) => ({ name, type, ...shapeOf(type)! }));
  shaped.sort((a, b) => b.alignment - a.alignment);
  const fields: Field[] = [];
  let offset = HEADER_SIZE;
  for (const { name, type, size, alignment, length } of shaped) {
    offset = Math.ceil(offset / alignment) * alignment;
    fields.push({ name, type, offset, length });
    offset += size;
  }
  if (offset > HEADER_SIZE + MOST_BYTES) {
    throw validate.outOfRange('record', `at most ${MOST_BYTES} bytes in all`, offset - HEADER_SIZE);
  }
  return { fields, stride: Math.ceil(offset / LINE) * LINE };
}

interface Declared {
  readonly type: FieldType;
  readonly stage: string;
}

function conflict(name: string, first: Declared, second: Declared): Error {
  return coded(
    new Error(
      `The field '${name}' is ${first.type} in stage '${first.stage}' and ${second.type} in ` +
        `stage '${second.stage}'`,
    ),
    'ERR_STAGE_RECORD',
  );
}
