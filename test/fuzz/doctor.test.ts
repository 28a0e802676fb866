// What doctor reads of the system, and makes of it, whatever is written there.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { advise } from '../../dist/doctor/advice.js';
import { limitsIn, restrictionsIn } from '../../dist/doctor/facts.js';
import type { Diagnosis, Limit } from '../../dist/doctor/findings.js';

fc.configureGlobal({
  seed: Number(process.env['FUZZ_SEED'] ?? 1),
  numRuns: Number(process.env['FUZZ_RUNS'] ?? 500),
});

const anything = fc.option(fc.string({ unit: 'binary' }));
const bound = fc.oneof(fc.constant('unlimited' as const), fc.maxSafeNat());
const number = fc.maxSafeInteger();

test('limits: what is written is read, and nothing else is made up', () => {
  const line = (name: string, { soft, hard }: Limit, unit: string) =>
    `${name.padEnd(26)}${String(soft).padEnd(21)}${String(hard).padEnd(21)}${unit}`;
  fc.assert(
    fc.property(bound, bound, anything, anything, (soft, hard, before, behind) => {
      const files = line('Max open files', { soft, hard }, 'files');
      const text = `${(before ?? '').replaceAll('Max', '')}\n${files}\n${(behind ?? '').replaceAll('Max', '')}`;
      expect(limitsIn(text)).toEqual({ descriptors: { soft, hard }, lockedMemory: null });
    }),
  );
  fc.assert(
    fc.property(anything, anything, (some, more) => {
      const { descriptors } = limitsIn(some === null ? null : `Max open files ${some} ${more}`);
      if (descriptors === null) return;
      for (const one of [descriptors.soft, descriptors.hard]) {
        expect(one === 'unlimited' || Number.isFinite(one)).toBe(true);
      }
    }),
  );
});

test('restrictions: a number is read as one, anything else as nothing', () => {
  fc.assert(
    fc.property(number, number, fc.integer({ min: 0, max: 9 }), (disabled, group, mode) => {
      const status = `Name:\tnode\nSeccomp:\t${mode}\nSeccomp_filters:\t0\n`;
      expect(restrictionsIn(status, `${disabled}\n`, `${group}\n`)).toEqual({
        seccomp: ['off', 'strict', 'filter'][mode] ?? null,
        ioUringDisabled: disabled,
        ioUringGroup: group,
      });
    }),
  );
  fc.assert(
    fc.property(anything, anything, anything, (status, disabled, group) => {
      const { ioUringDisabled, ioUringGroup } = restrictionsIn(status, disabled, group);
      for (const one of [ioUringDisabled, ioUringGroup]) {
        expect(one === null || Number.isFinite(one)).toBe(true);
      }
    }),
  );
});

test('advice: sentences, whatever was found', () => {
  const text = fc.oneof(
    fc.string(),
    fc.constantFrom('6.1.0', '5.15.0-generic', '', 'EPERM', 'x.y'),
  );
  const error = fc.option(
    fc.constantFrom('EPERM', 'EACCES', 'ENOSYS', 'ENOMEM', 'EINVAL', 'EMFILE'),
  );
  const limit = fc.option(fc.record({ soft: bound, hard: bound }));
  const found = fc.record({
    version: text,
    status: fc.constantFrom('good', 'fallback', 'broken'),
    system: fc.record({
      name: fc.constantFrom('Linux', 'Windows_NT', 'Darwin'),
      kernel: text,
      architecture: text,
      runtime: text,
      nodeApi: fc.option(text),
    }),
    binary: fc.record({
      platform: text,
      file: fc.option(text),
      origin: fc.constantFrom('built', 'prebuilt', null),
      abi: fc.option(number),
      tried: fc.array(fc.record({ file: text, reason: text })),
    }),
    driver: fc.record({
      name: fc.constantFrom('io_uring', 'epoll', 'iocp', null),
      reason: text,
      chosen: fc.option(text),
    }),
    capabilities: fc.array(fc.record({ name: text, since: text, required: fc.boolean(), error })),
    nudge: fc.option(fc.record({ mode: fc.constantFrom('signal', 'tick', 'off'), reason: text })),
    restrictions: fc.record({
      seccomp: fc.constantFrom('off', 'strict', 'filter', null),
      ioUringDisabled: fc.option(number),
      ioUringGroup: fc.option(number),
    }),
    limits: fc.record({ descriptors: limit, lockedMemory: limit }),
  });
  fc.assert(
    fc.property(found, (facts) => {
      for (const sentence of advise(facts as unknown as Omit<Diagnosis, 'advice'>)) {
        expect(sentence).toMatch(/\S/);
        expect(sentence).not.toMatch(/undefined|NaN|\[object/);
      }
    }),
  );
});
