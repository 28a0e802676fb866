/**
 * What `file.stat()` resolves to.
 */
import { constants } from 'node:fs';
import type { BigIntFileStatus, FileStatus } from '../api';
import type { PortThread } from '../thread/port-thread';
import type { Aftermath } from '../await/operation';

/** Bytes of the block native code writes the status to. */
export const STATUS_BYTES = 4096;

/** The order in which native code tells them. */
const enum Field {
  Size,
  Blocks,
  Ino,
  Dev,
  Nlink,
  Mode,
  Uid,
  Gid,
  Blksize,
  Atime,
  Mtime,
  Ctime,
  Birthtime,
}

/** Little-endian integers of 64 bits at `start` of `bytes`; times in nanoseconds. */
type Fields = (field: Field) => bigint;

/** Nanoseconds. */
const PER_MILLISECOND = 1_000_000n;

/** Milliseconds with their fraction, as exact as a double can be. */
const milliseconds = (time: bigint): number =>
  Number(time / PER_MILLISECOND) + Number(time % PER_MILLISECOND) / 1e6;

/** What both kinds of a status tell. */
abstract class Times {
  abstract readonly mode: number | bigint;
  abstract readonly atimeMs: number | bigint;
  abstract readonly mtimeMs: number | bigint;
  abstract readonly ctimeMs: number | bigint;
  abstract readonly birthtimeMs: number | bigint;

  get atime(): Date {
    return new Date(Number(this.atimeMs));
  }
  get mtime(): Date {
    return new Date(Number(this.mtimeMs));
  }
  get ctime(): Date {
    return new Date(Number(this.ctimeMs));
  }
  get birthtime(): Date {
    return new Date(Number(this.birthtimeMs));
  }

  isFile(): boolean {
    return this.is(constants.S_IFREG);
  }
  isDirectory(): boolean {
    return this.is(constants.S_IFDIR);
  }
  isCharacterDevice(): boolean {
    return this.is(constants.S_IFCHR);
  }
  isBlockDevice(): boolean {
    return this.is(constants.S_IFBLK);
  }
  isFIFO(): boolean {
    return this.is(constants.S_IFIFO);
  }
  isSocket(): boolean {
    return this.is(constants.S_IFSOCK);
  }
  isSymbolicLink(): boolean {
    return this.is(constants.S_IFLNK);
  }

  private is(type: number): boolean {
    return (Number(this.mode) & constants.S_IFMT) === type;
  }
}

/** The FileStatus of lib/api.ts. */
class Status extends Times implements FileStatus {
  readonly size: number;
  readonly blocks: number;
  readonly ino: number;
  readonly dev: number;
  readonly nlink: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly blksize: number;
  readonly atimeMs: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
  readonly birthtimeMs: number;

  constructor(field: Fields) {
    super();
    const number = (which: Field): number => Number(field(which));
    this.size = number(Field.Size);
    this.blocks = number(Field.Blocks);
    this.ino = number(Field.Ino);
    this.dev = number(Field.Dev);
    this.nlink = number(Field.Nlink);
    this.mode = number(Field.Mode);
    this.uid = number(Field.Uid);
    this.gid = number(Field.Gid);
    this.blksize = number(Field.Blksize);
    this.atimeMs = milliseconds(field(Field.Atime));
    this.mtimeMs = milliseconds(field(Field.Mtime));
    this.ctimeMs = milliseconds(field(Field.Ctime));
    this.birthtimeMs = milliseconds(field(Field.Birthtime));
  }
}

/** The BigIntFileStatus of lib/api.ts. */
class BigIntStatus extends Times implements BigIntFileStatus {
  readonly size: bigint;
  readonly blocks: bigint;
  readonly ino: bigint;
  readonly dev: bigint;
  readonly nlink: bigint;
  readonly mode: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly blksize: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly birthtimeNs: bigint;

  constructor(field: Fields) {
    super();
    // Those that have all 64 bits.
    const unsigned = (which: Field): bigint => BigInt.asUintN(64, field(which));
    this.size = unsigned(Field.Size);
    this.blocks = unsigned(Field.Blocks);
    this.ino = unsigned(Field.Ino);
    this.dev = unsigned(Field.Dev);
    this.nlink = unsigned(Field.Nlink);
    this.mode = field(Field.Mode);
    this.uid = field(Field.Uid);
    this.gid = field(Field.Gid);
    this.blksize = field(Field.Blksize);
    this.atimeNs = field(Field.Atime);
    this.mtimeNs = field(Field.Mtime);
    this.ctimeNs = field(Field.Ctime);
    this.birthtimeNs = field(Field.Birthtime);
  }

  get atimeMs(): bigint {
    return this.atimeNs / PER_MILLISECOND;
  }
  get mtimeMs(): bigint {
    return this.mtimeNs / PER_MILLISECOND;
  }
  get ctimeMs(): bigint {
    return this.ctimeNs / PER_MILLISECOND;
  }
  get birthtimeMs(): bigint {
    return this.birthtimeNs / PER_MILLISECOND;
  }
}

/** The pool memory a status is written to. */
export class StatusBlock implements Aftermath {
  private readonly thread: PortThread;
  readonly chunk: number;
  readonly start: number;

  /** Takes over the block that `thread.memory` took last. */
  constructor(thread: PortThread) {
    this.thread = thread;
    this.chunk = thread.memory.chunk;
    this.start = thread.memory.start;
  }

  read(bigint: boolean): FileStatus | BigIntFileStatus {
    const bytes = this.thread.memory.bytes(this.chunk);
    const field: Fields = (which) => bytes.readBigInt64LE(this.start + which * 8);
    return bigint ? new BigIntStatus(field) : new Status(field);
  }

  after(): void {
    this.thread.memory.give(this.chunk, this.start);
  }
}
