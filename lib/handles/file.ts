/**
 * Files.
 */
import type { Readable, Writable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { Kind } from '../native/kinds';
import type * as api from '../api';
import type {
  BigIntFileStatus,
  Data,
  FileChunkOptions,
  FileStatus,
  OwnedReadOptions,
  Position,
} from '../api';
import { FileChunks } from './file-chunks';
import { invalidState, outOfBuffers, type Subject } from '../support/errors';
import { answer, asNothing, asNumber, Handle, type Answer, type Style } from './handle';
import type { PortThread } from '../thread/port-thread';
import { FileLines } from './file-lines';
import { CopyBack } from '../await/copy-back';
import { LARGEST_COPY } from '../thread/memory';
import { toAsyncStreamable } from '../await/stream';
import {
  AWAIT_OPTIONS,
  OPERATION_OPTIONS,
  watchSignal,
  type Aftermath,
  type Decode,
  type OperationOptions,
} from '../await/operation';
import { readable, webReadable, writable } from './file-streams';
import { LateRead, type ReadBlock } from './late-read';
import { StatusBlock, STATUS_BYTES } from './file-status';
import { mayChange } from '../support/permission';
import * as validate from '../support/validate';
import { readFile, writeFile } from './whole-file';

/** Options of either style; lib/api.ts tells them apart. */
type ReadOptions = api.ReadOptions & api.KeyedReadOptions;
type WriteOptions = api.WriteOptions & api.KeyedWriteOptions;
type PartOptions = Pick<WriteOptions, 'offset' | 'length'>;

const PART_OPTIONS = ['offset', 'length', ...OPERATION_OPTIONS];
const WRITE_OPTIONS = ['sync', ...PART_OPTIONS];
const OWNED_OPTIONS = ['length', 'position', ...OPERATION_OPTIONS];

/** What is known of a file when it is opened. */
export interface FileTraits {
  readonly path: string | undefined;
  readonly append: boolean;
  readonly direct: boolean;
  /** 'regular', 'directory', 'stream', 'device' */
  readonly fileKind: string;
}

/**
 * An open file: `port.open()`. Operations run on io_uring's READ, WRITE, FSYNC… | on a small pool
 * of native threads under epoll | as overlapped I/O on Windows.
 *
 * The memory of a read or a write is the operation's until its end, whatever happens (rule O2).
 * Memory of `port.allocate()` is used in place, and may be released as soon as the operation is
 * submitted; a program's own is copied, since it could be detached meanwhile.
 *
 * What its public members do stands in lib/api.ts.
 */
export class File<S extends Style = Style> extends Handle<S> {
  readonly path: string | undefined;
  readonly #traits: FileTraits;
  readonly #about: Subject;
  #position = 0;

  /** @internal */
  constructor(
    thread: PortThread,
    id: number,
    key: number | undefined,
    holds: boolean,
    traits: FileTraits,
  ) {
    super(thread, id, key, holds);
    this.path = traits.path;
    this.#traits = traits;
    this.#about = { path: traits.path };
  }

  /** @internal */
  get traits(): FileTraits {
    return this.#traits;
  }

  /** @internal Where reads and writes without a position go on. */
  get position(): number {
    return this.#position;
  }

  set position(position: number) {
    this.#position = position;
  }

  get kind(): 'file' {
    return 'file';
  }

  read(target: ArrayBufferView, options?: ReadOptions): Answer<S, number>;
  read(target: ArrayBufferView, position?: Position, options?: ReadOptions): Answer<S, number>;
  read(this: File<'await'>, options: OwnedReadOptions): Answer<'await', Buffer>;
  read(
    target: ArrayBufferView | OwnedReadOptions,
    where?: Position | ReadOptions,
    more?: ReadOptions,
  ): unknown {
    this.assertOpen();
    if (!ArrayBuffer.isView(target)) return this.readOwned(target);
    const [position, options] = placed(where, more, PART_OPTIONS);
    const { memory } = this.thread;
    memory.checkTarget(target, 'target');
    const part = partOf(target, options);
    const length = part.byteLength;
    const at = this.place(position);
    if (!this.admits(options)) return this.refusedByAbort(Kind.Read, options);
    if (length === 0) return this.transferNothing(Kind.Read, options);
    if (memory.locate(part)) return this.readAt(asNumber, at, length, options, undefined);
    this.assertOwnMemoryAllowed();
    const copied = Math.min(length, LARGEST_COPY);
    return this.readCopied(justBytes, at, copied, options, [part]);
  }

  readv(
    targets: readonly ArrayBufferView[],
    where?: Position | (OperationOptions & api.PositionOptions),
    more?: OperationOptions,
  ): Answer<S, number> {
    this.assertOpen();
    validate.list(targets, 'targets');
    const [position, options] = placed(where, more, OPERATION_OPTIONS);
    const { memory } = this.thread;
    for (const target of targets) memory.checkTarget(validate.view(target, 'targets'), 'targets');
    const at = this.place(position);
    if (!this.admits(options)) return this.refusedByAbort(Kind.Read, options);
    if (!memory.stageInPlace(targets)) {
      this.assertOwnMemoryAllowed();
      const bytes = targets.reduce((sum, target) => sum + target.byteLength, 0);
      if (bytes === 0) return this.transferNothing(Kind.Read, options);
      const copied = Math.min(bytes, LARGEST_COPY);
      return this.readCopied(justBytes, at, copied, options, targets);
    }
    if (memory.stagedBytes === 0) return this.transferNothing(Kind.Read, options);
    return this.transferStaged(Kind.Read, at, options, undefined);
  }

  write(data: Data | readonly Data[], options?: WriteOptions): Answer<S, number>;
  write(
    data: Data | readonly Data[],
    position?: Position,
    options?: WriteOptions,
  ): Answer<S, number>;
  write(
    data: Data | readonly Data[],
    where?: Position | WriteOptions,
    more?: WriteOptions,
  ): Answer<S, number> {
    this.assertOpen();
    validate.data(data, 'data');
    const [position, options] = placed(where, more, WRITE_OPTIONS);
    return this.writeAt(partToWrite(data, options), position, options);
  }

  writev(data: readonly Data[], options?: WriteOptions): Answer<S, number>;
  writev(data: readonly Data[], position?: Position, options?: WriteOptions): Answer<S, number>;
  writev(
    data: readonly Data[],
    where?: Position | WriteOptions,
    options?: WriteOptions,
  ): Answer<S, number> {
    validate.list(data, 'data');
    return this.write(data, where as Position, options);
  }

  sync(options?: OperationOptions): Answer<S, void> {
    this.assertOpen();
    return this.plain(Kind.Sync, asNothing, options);
  }

  datasync(options?: OperationOptions): Answer<S, void> {
    this.assertOpen();
    return this.plain(Kind.DataSync, asNothing, options);
  }

  truncate(length = 0, options?: OperationOptions): Answer<S, void> {
    this.assertOpen();
    validate.integer(length, 'length', 0, Number.MAX_SAFE_INTEGER);
    return this.plain(Kind.Truncate, asNothing, options, length);
  }

  allocate(position: number, length: number, options?: OperationOptions): Answer<S, void> {
    this.assertOpen();
    validate.integer(position, 'position', 0, Number.MAX_SAFE_INTEGER);
    validate.integer(length, 'length', 1, Number.MAX_SAFE_INTEGER);
    return this.plain(Kind.Allocate, asNothing, options, position, length);
  }

  chmod(mode: number | string, options?: OperationOptions): Answer<S, void> {
    const bits = validate.fileMode(mode, 'mode');
    return this.change(Kind.SetMode, options, bits);
  }

  chown(uid: number, gid: number, options?: OperationOptions): Answer<S, void> {
    const [user, group] = [validate.owner(uid, 'uid'), validate.owner(gid, 'gid')];
    return this.change(Kind.SetOwner, options, user, group);
  }

  utimes(atime: api.FileTime, mtime: api.FileTime, options?: OperationOptions): Answer<S, void> {
    const accessed = validate.fileTime(atime, 'atime');
    return this.change(Kind.SetTimes, options, accessed, validate.fileTime(mtime, 'mtime'));
  }

  stat(
    this: File<'await'>,
    options?: OperationOptions & { readonly bigint?: false | undefined },
  ): Answer<'await', FileStatus>;
  stat(
    this: File<'await'>,
    options: OperationOptions & { readonly bigint: true },
  ): Answer<'await', BigIntFileStatus>;
  stat(
    this: File<'await'>,
    options?: OperationOptions & { readonly bigint?: boolean | undefined },
  ): Answer<'await', FileStatus | BigIntFileStatus> {
    this.assertAwaited('stat');
    validate.options(options);
    if (options !== undefined) validate.known(options, 'options', ['bigint', ...AWAIT_OPTIONS]);
    const bigint = validate.boolean(options?.bigint ?? false, 'options.bigint');
    if (!this.admits(options)) return this.refusedByAbort(Kind.Stat, options);
    const { thread } = this;
    const decode = (_: number, block: StatusBlock): FileStatus | BigIntFileStatus =>
      block.read(bigint);
    if (!thread.memory.reads.take(STATUS_BYTES)) {
      const block = (): StatusBlock => new StatusBlock(thread);
      return this.readLater(Kind.Stat, decode, 0, STATUS_BYTES, options, block);
    }
    const block = new StatusBlock(thread);
    const { chunk, start } = block;
    const read = (): FileStatus | BigIntFileStatus => block.read(bigint);
    return this.request(Kind.Stat, read, options, 0, 0, chunk, start, STATUS_BYTES, 0, block);
  }

  readFile(
    this: File<'await'>,
    options?: api.ReadFileOptions & { readonly encoding?: null | undefined },
  ): Answer<'await', Buffer>;
  readFile(
    this: File<'await'>,
    options: BufferEncoding | (api.ReadFileOptions & { readonly encoding: BufferEncoding }),
  ): Answer<'await', string>;
  readFile(
    this: File<'await'>,
    options?: api.ReadFileOptions | BufferEncoding | null,
  ): Answer<'await', Buffer | string>;
  readFile(
    this: File<'await'>,
    options?: api.ReadFileOptions | BufferEncoding | null,
  ): Answer<'await', Buffer | string> {
    this.assertAwaited('readFile');
    return readFile(this, options);
  }

  writeFile(
    this: File<'await'>,
    data: api.FileContents,
    options?: api.WriteFileOptions | BufferEncoding,
  ): Answer<'await', void> {
    this.assertAwaited('writeFile');
    return writeFile(this, data, options);
  }

  appendFile(
    this: File<'await'>,
    data: api.FileContents,
    options?: api.WriteFileOptions | BufferEncoding,
  ): Answer<'await', void> {
    return this.writeFile(data, options);
  }

  chunks(this: File<'await'>, options?: FileChunkOptions): api.AsyncLoop<Buffer> {
    this.assertAwaited('chunks');
    return new FileChunks(this, options);
  }

  [toAsyncStreamable](this: File<'await'>): api.AsyncLoop<Buffer> {
    return this.chunks();
  }

  readLines(this: File<'await'>, options?: api.ReadLinesOptions): api.AsyncLoop<string> {
    this.assertAwaited('readLines');
    return new FileLines(this, options);
  }

  readable(this: File<'await'>, options?: api.ReadableOptions): Readable {
    this.assertAwaited('readable');
    return readable(this, options);
  }

  createReadStream(this: File<'await'>, options?: api.ReadableOptions): Readable {
    return this.readable(options);
  }

  writable(this: File<'await'>, options?: api.WritableOptions): Writable {
    this.assertAwaited('writable');
    return writable(this, options);
  }

  createWriteStream(this: File<'await'>, options?: api.WritableOptions): Writable {
    return this.writable(options);
  }

  readableWebStream(
    this: File<'await'>,
    options?: api.ReadableWebStreamOptions,
  ): ReadableStream<Uint8Array> {
    this.assertAwaited('readableWebStream');
    return webReadable(this, options);
  }

  /** @internal */
  override subject(): Subject {
    return this.#about;
  }

  /** @internal Whether it has no positions. */
  get isStream(): boolean {
    return this.traits.fileKind === 'stream';
  }

  protected override forget(): void {
    this.thread.memory.reads.cancel(this);
  }

  protected override describe(): Record<string, unknown> {
    return { path: this.path, ...super.describe() };
  }

  private change(
    kind: Kind,
    options: OperationOptions | undefined,
    first: number,
    second?: number,
  ): Answer<S, void> {
    this.assertOpen();
    mayChange(this.path);
    return this.plain(kind, asNothing, options, first, second);
  }

  private readOwned(options: OwnedReadOptions): Answer<S, Buffer> {
    if (typeof options !== 'object' || options === null || Array.isArray(options)) {
      const expected = 'an instance of Buffer, TypedArray, or DataView, or options';
      throw validate.invalidType('target', expected, options);
    }
    if ('buffer' in options) {
      const reason = 'is an argument of its own: file.read(buffer, options)';
      throw validate.invalidValue('options.buffer', reason, options.buffer);
    }
    validate.knownOf(options, OWNED_OPTIONS);
    const { memory } = this.thread;
    const length = validate.integer(options.length, 'options.length', 0, 2 ** 31);
    this.assertAwaited('read() without memory');
    const at = this.place(options.position);
    if (!this.admits(options)) return this.refusedByAbort(Kind.Read, options);
    if (length === 0) return this.answerNow(Kind.Read, Buffer.alloc(0));
    const decode = (bytes: number, block: CopyBack): Buffer =>
      memory.copyOut(block.chunk, block.start, bytes);
    return this.readCopied(decode, at, length, options, []);
  }

  /** Reads into memory of the port's, and from there to where the program wants it. */
  private readCopied<T>(
    decode: (bytes: number, block: CopyBack) => T,
    at: number | undefined,
    length: number,
    options: OperationOptions | undefined,
    targets: readonly ArrayBufferView[],
  ): Answer<S, T> {
    const { thread } = this;
    if (!thread.memory.reads.take(length)) {
      const block = (): CopyBack => new CopyBack(thread, targets);
      return this.readLater(Kind.Read, decode, at, length, options, block);
    }
    const block = new CopyBack(thread, targets);
    return this.readAt((bytes) => decode(bytes, block), at, length, options, block);
  }

  /**
   * A read that begins when there is memory for it. Not in a chain, whose members are submitted
   * together; nor of a FIFO or a terminal, for which the kernel may have to wait for ever: others
   * would wait as long.
   */
  private readLater<T, B extends ReadBlock>(
    kind: Kind,
    decode: (bytes: number, block: B) => T,
    at: number | undefined,
    length: number,
    options: OperationOptions | undefined,
    takeOver: () => B,
  ): Answer<S, T> {
    const { thread } = this;
    if (thread.submissions.chaining || this.isStream) return this.refuse(kind, outOfBuffers());
    let block: B | undefined;
    const back: Aftermath = { after: (error, result) => block?.after(error, result) };
    const aftermath = at === undefined ? this.advance(length, back) : back;
    const offset = at ?? this.position - length;
    const submit = (timeout: number): void => {
      const { chunk, start } = (block = takeOver());
      thread.submissions.submit(
        kind,
        0,
        this.id,
        read.token,
        timeout,
        offset,
        0,
        chunk,
        start,
        length,
      );
    };
    const read = new LateRead<T>(this, kind, length, (bytes) => decode(bytes, block!), submit);
    read.aftermath = aftermath;
    if (watchSignal(read, options ?? {})) {
      thread.memory.reads.wait(read, validate.timeout(options?.timeout));
    }
    return answer<S, T>(read);
  }

  /** Reads into the memory located or taken last. */
  private readAt<T>(
    decode: Decode<T>,
    at: number | undefined,
    length: number,
    options: OperationOptions | undefined,
    aftermath: Aftermath | undefined,
  ): Answer<S, T> {
    const { chunk, start } = this.thread.memory;
    const after = at === undefined ? this.advance(length, aftermath) : aftermath;
    const offset = at ?? this.position - length;
    return this.request(Kind.Read, decode, options, offset, 0, chunk, start, length, 0, after);
  }

  private writeAt(
    data: Data | readonly Data[],
    position: Position,
    options: WriteOptions | undefined,
  ): Answer<S, number> {
    const at = this.traits.append ? 0 : this.place(position);
    if (!this.admits(options)) return this.refusedByAbort(Kind.Write, options);
    const syncs = validate.flag(options?.sync, 'options.sync');
    if (!this.thread.memory.stage(data, this.traits.direct)) {
      return this.refuse(Kind.Write, outOfBuffers());
    }
    if (this.thread.memory.stagedBytes === 0 && !syncs) {
      return this.transferNothing(Kind.Write, options);
    }
    return this.transferStaged(Kind.Write, at, options, undefined);
  }

  private transferStaged(
    kind: Kind,
    at: number | undefined,
    options: WriteOptions | undefined,
    aftermath: Aftermath | undefined,
  ): Answer<S, number> {
    const bytes = this.thread.memory.stagedBytes;
    const after = at === undefined ? this.advance(bytes, aftermath) : aftermath;
    const offset = at ?? this.position - bytes;
    if (options?.sync !== true) return this.requestStaged(kind, options, offset, after);
    return this.requestPair(kind, Kind.DataSync, (bytes) => bytes, options, offset, after);
  }

  /** The position to use; undefined: the file's own. */
  private place(position: Position): number | undefined {
    if (this.isStream) return 0;
    const at = validate.position(position);
    if (at === undefined && this.style === 'packet') {
      throw validate.invalidValue('position', 'is needed for a file with a key', position);
    }
    return at;
  }

  /** Moves the file's own position over what is about to be transferred. */
  private advance(bytes: number, inner: Aftermath | undefined): Aftermath {
    const from = this.position;
    this.position = from + bytes;
    return {
      after: (error, result) => {
        const lost = inner?.after(error, result);
        // Fewer bytes than expected: go back, unless something else has moved the position on.
        if (this.position === from + bytes) this.position = from + (error === 0 ? result : 0);
        return lost;
      },
    };
  }

  private transferNothing(kind: Kind, options: OperationOptions | undefined): Answer<S, number> {
    if (this.style === 'await') return this.answerNow(kind, 0);
    this.thread.memory.resetStage();
    return this.requestStaged(kind, options);
  }

  private assertOwnMemoryAllowed(): void {
    if (this.style === 'await') return;
    throw invalidState('A file with a key reads into memory of port.allocate() only');
  }

  private assertAwaited(what: string): void {
    this.assertOpen();
    if (this.style === 'packet') throw invalidState(`${what} is for files without a key`);
  }
}

function justBytes(bytes: number): number {
  return bytes;
}

/**
 * The position and the options: the position may be one of these, as in the modern form of node:fs,
 * or precede them.
 */
function placed<O extends OperationOptions>(
  where: Position | (O & api.PositionOptions),
  more: O | undefined,
  names: readonly string[],
): [Position, O | undefined] {
  if (typeof where !== 'object' || where === null) {
    validate.knownOf(more, names);
    return [where, more];
  }
  if (more !== undefined) throw validate.invalidType('options', 'given once', more);
  validate.knownOf(where, ['position', ...names]);
  return [where.position, where];
}

/** The bytes that `offset` and `length` mean; all of them. */
function partOf(view: ArrayBufferView, options: PartOptions | undefined): ArrayBufferView {
  const { offset, length } = options ?? {};
  if (offset === undefined && length === undefined) return view;
  const from = validate.integer(offset ?? 0, 'options.offset', 0, view.byteLength);
  const most = view.byteLength - from;
  const bytes = validate.integer(length ?? most, 'options.length', 0, most);
  return new Uint8Array(view.buffer, view.byteOffset + from, bytes);
}

function partToWrite(
  data: Data | readonly Data[],
  options: PartOptions | undefined,
): Data | readonly Data[] {
  const { offset, length } = options ?? {};
  if (offset === undefined && length === undefined) return data;
  if (ArrayBuffer.isView(data)) return partOf(data, options);
  const [name, value] = offset === undefined ? ['length', length] : ['offset', offset];
  throw validate.invalidValue(
    `options.${name}`,
    'is for one Buffer, TypedArray, or DataView',
    value,
  );
}
