import { describe, expect, expectTypeOf, test } from 'vitest';
import {
  defineStage,
  type Connection,
  type HandlerResult,
  type RecordOf,
  type Transition,
} from '../../dist/stages.js';
import { layOut } from '../../dist/stage/definition/fields.js';
import type { RecordFields } from '../../dist/stages.js';
import { recordClass, Records, type RecordView } from '../../dist/stage/record/record.js';
import { codeOf, failureOf } from '../support/harness';

describe('defineStage: bad input', () => {
  const states = { only: {} };
  test.each([
    [undefined, 'ERR_INVALID_ARG_TYPE'],
    ['a stage', 'ERR_INVALID_ARG_TYPE'],
    [{}, 'ERR_INVALID_ARG_TYPE'],
    [{ states: {} }, 'ERR_OUT_OF_RANGE'],
    [{ states: { a: 7 } }, 'ERR_INVALID_ARG_TYPE'],
    [{ states: { a: { recieved() {} } } }, 'ERR_INVALID_ARG_VALUE'],
    [{ states: { a: { received: 'bytes' } } }, 'ERR_INVALID_ARG_TYPE'],
    [{ states, otherwise: 3 }, 'ERR_INVALID_ARG_TYPE'],
    [{ states, otherwise: { close() {} } }, 'ERR_INVALID_ARG_VALUE'],
    [{ states, initial: 'other' }, 'ERR_INVALID_ARG_VALUE'],
    [{ states, local: {} }, 'ERR_INVALID_ARG_TYPE'],
    [{ states, locals: () => 1 }, 'ERR_INVALID_ARG_VALUE'],
    [{ states, record: 'u8' }, 'ERR_INVALID_ARG_TYPE'],
    [{ states, record: { a: 'u24' } }, 'ERR_INVALID_ARG_VALUE'],
    [{ states, record: { a: 'utf8[0]' } }, 'ERR_INVALID_ARG_VALUE'],
    [{ states, record: { a: 'bytes[99999]' } }, 'ERR_INVALID_ARG_VALUE'],
    [{ states, record: { a: 8 } }, 'ERR_INVALID_ARG_VALUE'],
    [{ states, record: { toJSON: 'u8' } }, 'ERR_INVALID_ARG_VALUE'],
    [{ states, stages: 'work' }, 'ERR_INVALID_ARG_TYPE'],
    [{ states, stages: ['work', 7] }, 'ERR_INVALID_ARG_TYPE'],
  ])('%o: %s', async (definition, code) => {
    const error = await failureOf(() => defineStage(definition as never));
    expect(codeOf(error)).toBe(code);
  });

  test('too many states', async () => {
    const many = Object.fromEntries(Array.from({ length: 128 }, (_, i) => [`s${i}`, {}]));
    expect(codeOf(await failureOf(() => defineStage({ states: many })))).toBe('ERR_OUT_OF_RANGE');
  });
});

describe('records', () => {
  const fields = {
    flag: 'bool',
    small: 'i8',
    byte: 'u8',
    short: 'i16',
    port: 'u16',
    long: 'i32',
    word: 'u32',
    big: 'u64',
    single: 'f32',
    double: 'f64',
    name: 'utf8[8]',
    hash: 'bytes[4]',
  } as const;
  const layout = layOut([{ stage: 'a', fields }]);
  const make = () => {
    const records = new Records(new ArrayBuffer(layout.stride * 4), layout.stride);
    const View = recordClass(records, layout);
    const at = 2 * layout.stride;
    const view = new View(0x100002, at) as RecordView & RecordOf<typeof fields>;
    records.words[at / 4] = 0x100002;
    return { records, view, at };
  };

  test('what is written is read, from any view, and nothing else changes', () => {
    const { view, records, at } = make();
    const values = {
      flag: true,
      small: -128,
      byte: 255,
      short: -32768,
      port: 65535,
      long: -(2 ** 31),
      word: 2 ** 32 - 1,
      big: 2n ** 64n - 1n,
      single: 0.5,
      double: Math.PI,
      name: 'añb→',
      hash: Buffer.from([1, 2, 3, 4]),
    };
    for (const [name, value] of Object.entries(values)) Object.assign(view, { [name]: value });
    for (const [name, value] of Object.entries(values)) {
      expect((view as unknown as Record<string, unknown>)[name]).toEqual(value);
    }
    const untouched = records.bytes.filter(
      (_, i) => i < 2 * layout.stride || i >= 3 * layout.stride,
    );
    expect(untouched.every((byte) => byte === 0)).toBe(true);
    expect([...records.bytes.subarray(at + 4, at + 64)].every((b) => b === 0)).toBe(true);
  });

  test('bytes are a view: shorter ones are followed by zeros', () => {
    const { view } = make();
    view.hash = Buffer.from([9, 9, 9, 9]);
    view.hash = Buffer.from([7]);
    expect([...view.hash]).toEqual([7, 0, 0, 0]);
    view.hash[3] = 5;
    expect([...view.hash]).toEqual([7, 0, 0, 5]);
  });

  test.each([
    ['byte', 256, 'ERR_OUT_OF_RANGE'],
    ['byte', -1, 'ERR_OUT_OF_RANGE'],
    ['byte', 1.5, 'ERR_OUT_OF_RANGE'],
    ['byte', NaN, 'ERR_OUT_OF_RANGE'],
    ['byte', '1', 'ERR_INVALID_ARG_TYPE'],
    ['small', 128, 'ERR_OUT_OF_RANGE'],
    ['port', 65536, 'ERR_OUT_OF_RANGE'],
    ['word', 2 ** 32, 'ERR_OUT_OF_RANGE'],
    ['big', 1, 'ERR_INVALID_ARG_TYPE'],
    ['big', 2n ** 64n, 'ERR_OUT_OF_RANGE'],
    ['double', '1', 'ERR_INVALID_ARG_TYPE'],
    ['flag', 1, 'ERR_INVALID_ARG_TYPE'],
    ['name', 7, 'ERR_INVALID_ARG_TYPE'],
    ['name', 'ninebytes', 'ERR_OUT_OF_RANGE'],
    ['name', '→→→', 'ERR_OUT_OF_RANGE'],
    ['hash', 'abcd', 'ERR_INVALID_ARG_TYPE'],
    ['hash', Buffer.alloc(5), 'ERR_OUT_OF_RANGE'],
  ])('%s = %o: %s, and nothing is written', async (name, value, code) => {
    const { view } = make();
    const before = (view as unknown as Record<string, unknown>)[name];
    expect(codeOf(await failureOf(() => Object.assign(view, { [name]: value })))).toBe(code);
    expect((view as unknown as Record<string, unknown>)[name]).toEqual(before);
  });

  test('a name that is no field is refused, and nothing is written', async () => {
    const { view } = make();
    const before = Object.keys(view);
    const error = await failureOf(() => Object.assign(view, { prot: 80 }));
    expect(codeOf(error)).toBe('ERR_INVALID_ARG_VALUE');
    expect(String(error)).toContain("no field 'prot'");
    expect(Object.keys(view)).toEqual(before);
  });

  test.each(['u32', 'bool', 'utf8[8]'] as const)('a field may have any name (%s)', (type) => {
    const names = ['key', 'at', 'check', 'aborted', 'constructor', 'toString', 'then', '__proto__'];
    const named = Object.fromEntries(names.map((name) => [name, type]));
    const { record } = defineStage({ record: named, states: { one: {} } });
    const shared = layOut([{ stage: 'a', fields: record }]);
    const records = new Records(new ArrayBuffer(shared.stride), shared.stride);
    const view = new (recordClass(records, shared))(1, 0) as unknown as Record<string, unknown>;
    records.words[0] = 1;
    const value = { u32: 7, bool: true, 'utf8[8]': 'text' }[type];
    for (const name of names) view[name] = value;
    expect(names.map((name) => view[name])).toEqual(names.map(() => value));
    const shown = JSON.parse(JSON.stringify(view)) as object;
    expect(Object.entries(shown).sort()).toEqual(names.map((name) => [name, value]).sort());
  });

  test('a record that was released throws, whatever is asked of it', async () => {
    const { view, records, at } = make();
    records.words[at / 4] = 0x200002;
    for (const name of Object.keys(fields)) {
      const value = (view as unknown as Record<string, unknown>)[`${name}`.slice(0, 0)];
      const reading = await failureOf(() => (view as unknown as Record<string, unknown>)[name]);
      const writing = await failureOf(() => Object.assign(view, { [name]: value }));
      expect([codeOf(reading), codeOf(writing)]).toEqual([
        'ERR_CONNECTION_RELEASED',
        'ERR_CONNECTION_RELEASED',
      ]);
    }
  });

  test('the stages of a pipeline share fields by name', async () => {
    const two = layOut([
      { stage: 'a', fields: { n: 'u32', text: 'utf8[3]' } },
      { stage: 'b', fields: { n: 'u32', d: 'f64' } },
    ]);
    expect(two.fields.map(({ name }) => name).sort()).toEqual(['d', 'n', 'text']);
    expect(two.fields.every(({ offset }) => offset >= 64)).toBe(true);
    expect(two.stride % 64).toBe(0);
    const differing: [RecordFields, RecordFields] = [{ n: 'u32' }, { n: 'u16' }];
    const error = await failureOf(() =>
      layOut(differing.map((fields, i) => ({ stage: 'ab'[i]!, fields }))),
    );
    expect(codeOf(error)).toBe('ERR_STAGE_RECORD');
    expect(error.message).toMatch(/'n' is u32 in stage 'a' and u16 in stage 'b'/);
    const large = await failureOf(() =>
      layOut([{ stage: 'a', fields: { a: 'bytes[32768]', b: 'u8' } }]),
    );
    expect(codeOf(large)).toBe('ERR_OUT_OF_RANGE');
  });
});

// What the compiler accepts and refuses: `npm run typecheck`.
describe('types', () => {
  test('fields have the types of their values', () => {
    defineStage({
      record: { n: 'u32', big: 'u64', yes: 'bool', name: 'utf8[4]', bytes: 'bytes[4]' },
      states: {
        a: {
          entered(c) {
            expectTypeOf(c.record).toEqualTypeOf<{
              n: number;
              big: bigint;
              yes: boolean;
              name: string;
              bytes: Buffer;
            }>();
            // @ts-expect-error there is no such field
            void c.record.other;
            // @ts-expect-error it is a number
            c.record.n = 'x';
          },
        },
      },
    });
    expect(() =>
      defineStage({
        // @ts-expect-error there is no such type
        record: { n: 'u24' },
        states: { a: {} },
      }),
    ).toThrow();
  });

  test('states, events and what handlers return are checked', () => {
    const stage = defineStage({
      initial: 'b',
      states: {
        a: { received: (_c, bytes) => (bytes.length > 1 ? 'b' : undefined) },
        b: { posted: async (c, value) => (value > 1 ? 'a' : c.close()) },
      },
    });
    expectTypeOf(stage.states).toEqualTypeOf<readonly ('a' | 'b')[]>();
    expectTypeOf<HandlerResult<'a'>>().toEqualTypeOf<'a' | Transition | void | undefined>();
    defineStage({
      // @ts-expect-error there is no such state
      states: { a: { received: () => 'c' }, b: {} },
    });
    defineStage({
      // @ts-expect-error there is no such state, when the promise is settled
      states: { a: { received: async () => 'c' }, b: {} },
    });
    expect(() =>
      defineStage({
        // @ts-expect-error there is no such event
        states: { a: { recieved: () => 'a' } },
      }),
    ).toThrow();
    expect(() =>
      defineStage({
        // @ts-expect-error there is no such state
        initial: 'c',
        states: { a: {} },
      }),
    ).toThrow();
  });

  test('`c.local` is what `local` made', () => {
    defineStage({
      record: { n: 'u8' },
      local: (c) => ({ seen: new Set<number>([c.record.n]) }),
      states: {
        a: {
          entered(c) {
            expectTypeOf(c.local).toEqualTypeOf<{ seen: Set<number> }>();
            expectTypeOf(c.state).toEqualTypeOf<'a'>();
          },
        },
      },
    });
    expectTypeOf<Connection['key']>().toBeNumber();
  });
});
