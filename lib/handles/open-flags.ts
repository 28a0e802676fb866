/**
 * The flags of `open`: the strings and numbers of node:fs, as the drivers' bits.
 */
import { constants } from 'node:fs';
import { OpenFlag } from '../native/layout';
import { invalidType, invalidValue } from '../support/validate';

const READ = OpenFlag.Read;
const WRITE = OpenFlag.Write | OpenFlag.Create | OpenFlag.Truncate;
const APPEND = OpenFlag.Write | OpenFlag.Create | OpenFlag.Append;
const EXCLUSIVE = OpenFlag.Exclusive;
const SYNC = OpenFlag.Sync;

const strings: Record<string, number | undefined> = {
  r: READ,
  rs: READ | SYNC,
  sr: READ | SYNC,
  'r+': READ | OpenFlag.Write,
  'rs+': READ | OpenFlag.Write | SYNC,
  'sr+': READ | OpenFlag.Write | SYNC,
  w: WRITE,
  wx: WRITE | EXCLUSIVE,
  xw: WRITE | EXCLUSIVE,
  'w+': WRITE | READ,
  'wx+': WRITE | READ | EXCLUSIVE,
  'xw+': WRITE | READ | EXCLUSIVE,
  a: APPEND,
  ax: APPEND | EXCLUSIVE,
  xa: APPEND | EXCLUSIVE,
  as: APPEND | SYNC,
  sa: APPEND | SYNC,
  'a+': APPEND | READ,
  'ax+': APPEND | READ | EXCLUSIVE,
  'xa+': APPEND | READ | EXCLUSIVE,
  'as+': APPEND | READ | SYNC,
  'sa+': APPEND | READ | SYNC,
};

/** Bits a program may set that change nothing here: descriptors are opened with CLOEXEC anyway. */
const HARMLESS = (constants.O_NOCTTY ?? 0) | (constants.O_NONBLOCK ?? 0);

export function openFlags(flags: unknown, direct: boolean): number {
  const parsed = typeof flags === 'number' ? fromNumber(flags) : fromString(flags);
  return direct ? parsed | OpenFlag.Direct : parsed;
}

function fromString(flags: unknown): number {
  if (typeof flags !== 'string') throw invalidType('flags', 'of type string or number', flags);
  const parsed = Object.hasOwn(strings, flags) ? strings[flags] : undefined;
  if (parsed === undefined) throw invalidValue('flags', 'is not known', flags);
  return parsed;
}

function fromNumber(flags: number): number {
  const { O_RDONLY, O_WRONLY, O_RDWR } = constants;
  const access = flags & (O_WRONLY | O_RDWR);
  let parsed =
    access === O_RDONLY ? READ : access === O_WRONLY ? OpenFlag.Write : READ | OpenFlag.Write;
  let left = flags & ~access & ~HARMLESS;
  const map = (bits: number | undefined, flag: OpenFlag): void => {
    if (!bits || (left & bits) !== bits) return;
    parsed |= flag;
    left &= ~bits;
  };
  map(constants.O_CREAT, OpenFlag.Create);
  map(constants.O_EXCL, OpenFlag.Exclusive);
  map(constants.O_TRUNC, OpenFlag.Truncate);
  map(constants.O_APPEND, OpenFlag.Append);
  map(constants.O_DIRECT, OpenFlag.Direct);
  // O_SYNC contains the bit of O_DSYNC.
  map(constants.O_SYNC, OpenFlag.Sync);
  map(constants.O_DSYNC, OpenFlag.Sync);
  if (left !== 0) throw invalidValue('flags', 'has bits that are not supported', flags);
  return parsed;
}
