/**
 * What `file.stat()` resolves to.
 */
import { constants } from 'node:fs';
import type { FileStatus } from './api';
import type { Lane } from './lane';
import type { Aftermath } from './operation';

const FIELDS = 13;
/** Bytes of the block native code writes the status to. */
export const STATUS_BYTES = 4096;

/** The FileStatus of lib/api.ts. */
export class Status implements FileStatus {
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

  /** @internal Little-endian numbers at `start` of `bytes`. */
  constructor(bytes: Buffer, start: number) {
    const field = (index: number): number => bytes.readDoubleLE(start + index * 8);
    this.size = field(0);
    this.blocks = field(1);
    this.ino = field(2);
    this.dev = field(3);
    this.nlink = field(4);
    this.mode = field(5);
    this.uid = field(6);
    this.gid = field(7);
    this.blksize = field(8);
    this.atimeMs = field(9);
    this.mtimeMs = field(10);
    this.ctimeMs = field(11);
    this.birthtimeMs = field(FIELDS - 1);
  }

  get atime(): Date {
    return new Date(this.atimeMs);
  }
  get mtime(): Date {
    return new Date(this.mtimeMs);
  }
  get ctime(): Date {
    return new Date(this.ctimeMs);
  }
  get birthtime(): Date {
    return new Date(this.birthtimeMs);
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
    return (this.mode & constants.S_IFMT) === type;
  }
}

/** The pool memory a status is written to. */
export class StatusBlock implements Aftermath {
  private readonly lane: Lane;
  readonly chunk: number;
  readonly start: number;

  /** Takes over the block that `lane.memory` took last. */
  constructor(lane: Lane) {
    this.lane = lane;
    this.chunk = lane.memory.chunk;
    this.start = lane.memory.start;
  }

  read(): FileStatus {
    return new Status(this.lane.memory.bytes(this.chunk), this.start);
  }

  after(): void {
    this.lane.memory.give(this.chunk, this.start);
  }
}
