/**
 * The public types of ports and handles: what a program can rely on. The classes behind them are
 * held to them by lib/api-check.ts, and are nobody else's business. Those of stages are in
 * lib/stage/api.ts.
 *
 * The style of a handle is in its type. One that was opened without a key is awaited: its methods
 * return operations. One with a key answers in packets: its methods return nothing, or whether there
 * is less to send than `highWaterMark`; and where a method makes sense in one style only, the other
 * has none.
 *
 * Unions are open: a minor version may add a member, so a `switch` needs a default.
 */

import type { AsyncResource } from 'node:async_hooks';
import type { Readable, Writable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';

// ---- operations

declare const suspended: unique symbol;

/** What a micro-thread yields while it waits. Only this library makes it: use `yield*`. */
export interface Suspended {
  readonly [suspended]: never;
}

/**
 * What `yield*` waits for in a micro-thread (`completion-port/micro`), and gives the result of. A
 * generator that yields nothing else is one itself. Outside of micro-threads its iterator throws
 * `ERR_INVALID_STATE` where it would have to wait, and so does `await` of one that is no promise as
 * well: an `Operation` and a `MicroThread` are.
 */
export interface Waitable<T> {
  [Symbol.iterator](): Iterator<Suspended, T, unknown>;
}

/**
 * An operation under way: a promise that can be cancelled. The context of AsyncLocalStorage follows
 * from `await` and `then` to what runs after them. A failed operation that nobody has attached to is
 * reported as an `unhandledRejection`, as any promise is, unless it failed because of its own
 * `cancel()`. In a micro-thread `yield*` waits for it without a promise.
 */
export interface Operation<T> extends Promise<T>, Waitable<T> {
  /** Whether it has neither succeeded nor failed yet. */
  readonly pending: boolean;
  /**
   * Asks for an early end. The operation then rejects with `ECANCELED`, or resolves to its natural
   * result where that came first (rule O4). No effect on one that has ended.
   */
  cancel(): void;
}

/** Options of whatever is awaited. */
export interface AwaitOptions {
  /**
   * Cancels the operation when it is aborted: it then rejects with an `AbortError` (code
   * `ABORT_ERR`) whose `cause` is the signal's reason, unless its natural result came first.
   * A signal that is aborted already rejects without submitting anything.
   */
  readonly signal?: AbortSignal | undefined;
  /**
   * Milliseconds after which it ends with `ETIMEDOUT` (rule O6). The error's `timeout` is true then,
   * unlike that of a timeout of the system's. Default, and for 0 and Infinity: no limit.
   */
  readonly timeout?: number | undefined;
}

/** Options of an operation that is answered by a packet. */
export interface PacketOptions {
  /** Milliseconds after which it ends with `ETIMEDOUT` (rule O6). Default, 0, Infinity: no limit. */
  readonly timeout?: number | undefined;
  /**
   * An unsigned 32-bit number that comes back as `packet.tag`: tells several operations in flight
   * on one handle apart. Default: 0.
   */
  readonly tag?: number | undefined;
  /**
   * Answers with a packet only when the operation fails: spares a program that does not care when
   * exactly its bytes were sent half of its packets. As an OVERLAPPED whose event has its lowest bit
   * set does on Windows. Without effect on a receive or accept. Default: false.
   */
  readonly quiet?: boolean | undefined;
}

/**
 * What a `for await` goes over. It ends when this program closes what it goes over, and throws when
 * anything else ends it. Leaving it early, or disposing of it, ends what is under way.
 */
export interface AsyncLoop<T> extends AsyncDisposable {
  next(): Promise<IteratorResult<T, undefined>>;
  return(): Promise<IteratorResult<T, undefined>>;
  [Symbol.asyncIterator](): this;
}

/** Bytes to send or write: a string is encoded as UTF-8. */
export type Data = string | ArrayBufferView;

/** A key for a handle: an unsigned 32-bit number, or `'unique'` for one nobody else has. */
export type KeyOption = number | 'unique';

/** `Keyed` where a key is given, `Awaited` where none is, either where that is not known. */
export type ByKey<K extends KeyOption | undefined, Awaited, Keyed> = K extends undefined
  ? Awaited
  : Keyed;

// ---- what all handles have

/** What every handle has, whatever its kind and style. */
export interface Handle extends AsyncDisposable {
  readonly kind: 'file' | 'listener' | 'socket' | 'timer';
  /** Its name in the process; the same in each thread. */
  readonly id: number;
  /** `'await'`: its methods return operations. `'packet'`: packets answer. */
  readonly style: 'await' | 'packet';
  /** Its key; undefined for a handle of await style. */
  readonly key: number | undefined;
  /** The port it belongs to. */
  readonly port: CompletionPort;
  /** Whether it was closed, or handed to another port, by this thread. */
  readonly closed: boolean;
  /** Cancels everything in flight on the handle (rule O4). */
  cancel(): void;
  /**
   * Links the operations of this handle that `fn` submits: each starts when the one before it has
   * succeeded, and is cancelled when that has failed (rule O9). Returns what `fn` returns:
   * `const [written, synced] = file.link(() => [file.write(data, 0), file.sync()])`. Sockets throw
   * `ERR_INVALID_STATE` while sends wait for their turn (`highWaterMark`).
   */
  link<T>(fn: () => T): T;
  /** Lets the open handle keep the process alive, which is the default where it was opened. */
  ref(): this;
  /** Lets the process end although the handle is open. */
  unref(): this;
  /** Whether it keeps the process alive, in this thread; one that is gone does not. */
  hasRef(): boolean;
  /** For `JSON.stringify`, as text for people and logs: what `util.inspect` shows. Never throws. */
  toJSON(): object;
  /** Closes it. With a key: does not wait for the `closed` packet. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** What every handle without a key has. */
export interface AwaitHandle extends Handle {
  readonly style: 'await';
  readonly key: undefined;
  /**
   * Closes the handle: what is in flight is cancelled and answered, then the descriptor goes back
   * (rule O5). Resolves when it is closed; the same operation each time.
   */
  close(): Operation<void>;
}

/** What every handle with a key has. */
export interface KeyedHandle extends Handle {
  readonly style: 'packet';
  readonly key: number;
  /**
   * The asynchronous context in which it was opened, where `asyncResource` was asked for:
   * `packet.handle.asyncResource?.runInAsyncScope(fn)`. Undefined otherwise, in other threads, and
   * where it came by a hand-off.
   */
  readonly asyncResource: AsyncResource | undefined;
  /**
   * Closes the handle: what is in flight is cancelled and answered, then the descriptor goes back
   * (rule O5). The `closed` packet is its last. No effect a second time, nor on one that was handed
   * off, whose connection is the new port's.
   */
  close(): void;
  /**
   * Moves the handle to another port, under `key` (default: its own). From then on the new port
   * gets its packets, a `handedOff` packet first, and those of operations in flight (rule A3). This
   * object can't be used any more. `ERR_OPERATIONS_PENDING` where the driver can't move an operation
   * in flight, `ERR_PORT_FOREIGN` for a port of another copy of the package.
   */
  handOff(target: CompletionPort | PortToken, key?: KeyOption): void;
}

// ---- files

/** Byte position in a file; none: where the last read or write without a position ended. */
export type Position = number | bigint | null | undefined;

/** Which part of memory is read into, or written. */
export interface PartOptions {
  /** Where in the memory to begin, in bytes. Default: 0. */
  readonly offset?: number | undefined;
  /** Bytes to read at most, or to write. Default: up to the end of the memory. */
  readonly length?: number | undefined;
}

/** Where in a file. */
export interface PositionOptions {
  /** Where to begin; none: where the last read or write without one ended. */
  readonly position?: Position;
}

export interface ReadOptions extends AwaitOptions, PositionOptions, PartOptions {}

export interface OwnedReadOptions extends AwaitOptions, PositionOptions {
  /** Bytes to read at most. */
  readonly length: number;
}

export interface KeyedReadOptions extends PacketOptions, PositionOptions, PartOptions {}

/** `offset` and `length` are for one piece of memory. */
export interface WriteOptions extends AwaitOptions, PositionOptions, PartOptions {
  /**
   * Writes and then brings the data to the device (fdatasync), as a chain (rule O9). The operation
   * resolves when both are done. Default: false.
   */
  readonly sync?: boolean | undefined;
}

/** `offset` and `length` are for one piece of memory. */
export interface KeyedWriteOptions extends PacketOptions, PositionOptions, PartOptions {
  /**
   * Writes and then brings the data to the device (fdatasync), as a chain (rule O9): a `written` and
   * a `synced` packet. Default: false.
   */
  readonly sync?: boolean | undefined;
}

/** What `file.chunks` and `document.chunks` take. */
export interface FileChunkOptions extends AwaitOptions {
  /** Bytes of one chunk. Default: 65536. */
  readonly size?: number | undefined;
  /** Reads in flight ahead of the loop; 1 to 256. Default: 4. */
  readonly depth?: number | undefined;
  /** Where in the file to begin. Default: 0. */
  readonly position?: number | bigint | undefined;
  /** Bytes to read at most. Default: up to the end of the file. */
  readonly length?: number | undefined;
  /**
   * Whether to lend the port's memory rather than give Buffers that stay: each chunk is then valid
   * until the loop asks for the next one. Spares a copy. Default: false.
   */
  readonly lend?: boolean | undefined;
}

/** What `file.readLines` takes; `timeout` is for each read. */
export interface ReadLinesOptions extends AwaitOptions {
  /** Of the file. Default: `'utf8'`. */
  readonly encoding?: BufferEncoding | null | undefined;
  /** Where in the file to begin. Default: where the last read or write without a position ended. */
  readonly position?: number | bigint | undefined;
  /** Bytes to read at most. Default: up to the end of the file. */
  readonly length?: number | undefined;
  /**
   * The greatest `length` of a line, in the units of strings; 1 to 536870888. The loop throws
   * `ERR_LINE_TOO_LONG` where a longer one begins, and has no more of it in memory than that and one
   * chunk. Default: 16777216.
   */
  readonly maxLength?: number | undefined;
}

/** The status of a file, as `fs.Stats` has it; times have fractions of milliseconds. */
export interface FileStatus {
  /** Bytes. */
  readonly size: number;
  /** Blocks of 512 bytes it takes on the device. */
  readonly blocks: number;
  readonly ino: number;
  readonly dev: number;
  readonly nlink: number;
  /** Type and permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes that are best read or written at one time. */
  readonly blksize: number;
  readonly atimeMs: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
  readonly birthtimeMs: number;
  readonly atime: Date;
  readonly mtime: Date;
  readonly ctime: Date;
  readonly birthtime: Date;
  isFile(): boolean;
  isDirectory(): boolean;
  isCharacterDevice(): boolean;
  isBlockDevice(): boolean;
  isFIFO(): boolean;
  isSocket(): boolean;
  /** Always false: opening follows links. */
  isSymbolicLink(): boolean;
}

/** The same, exact where a number is not: as `fs.BigIntStats` has it. */
export interface BigIntFileStatus extends Pick<
  FileStatus,
  | 'atime'
  | 'mtime'
  | 'ctime'
  | 'birthtime'
  | 'isFile'
  | 'isDirectory'
  | 'isCharacterDevice'
  | 'isBlockDevice'
  | 'isFIFO'
  | 'isSocket'
  | 'isSymbolicLink'
> {
  /** Bytes. */
  readonly size: bigint;
  /** Blocks of 512 bytes it takes on the device. */
  readonly blocks: bigint;
  readonly ino: bigint;
  readonly dev: bigint;
  readonly nlink: bigint;
  /** Type and permission bits. */
  readonly mode: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  /** Bytes that are best read or written at one time. */
  readonly blksize: bigint;
  /** Whole milliseconds. */
  readonly atimeMs: bigint;
  readonly mtimeMs: bigint;
  readonly ctimeMs: bigint;
  readonly birthtimeMs: bigint;
  /** Nanoseconds, as exact as the file system has them. */
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly birthtimeNs: bigint;
}

/** A time: a Date, or seconds since 1970, as a string too. Negative ones are before that. */
export type FileTime = Date | number | string;

/** What `file.stat` takes. */
export interface StatOptions extends AwaitOptions {
  /** Whether the numbers are bigints, and the times in nanoseconds as well. Default: false. */
  readonly bigint?: boolean | undefined;
}

/** What `file.readFile` takes. */
export interface ReadFileOptions extends AwaitOptions {
  /** Gives a string, decoded so. Default: none, a Buffer. */
  readonly encoding?: BufferEncoding | null | undefined;
}

/** What `file.writeFile` takes. */
export interface WriteFileOptions extends AwaitOptions {
  /** Of strings. Default: `'utf8'`. */
  readonly encoding?: BufferEncoding | null | undefined;
  /** Brings what was written to the device at the end: fsync. Default: false. */
  readonly flush?: boolean | undefined;
}

interface StreamOptions {
  /**
   * Where in the file to begin. Default: where the last read or write without a position ended, one
   * piece after the other.
   */
  readonly start?: number | undefined;
  /** Closes the file when the stream ends or is destroyed. Default: true. */
  readonly autoClose?: boolean | undefined;
  /** Emits `close` when the stream was destroyed. Default: true. */
  readonly emitClose?: boolean | undefined;
  /** Destroys the stream, with an `AbortError`, when it is aborted. */
  readonly signal?: AbortSignal | undefined;
}

/** What `file.readable` takes, as fs.createReadStream has it. */
export interface ReadableOptions extends StreamOptions {
  /** The last byte to read, inclusive. Default: Infinity, up to the end of the file. */
  readonly end?: number | undefined;
  /** Bytes of one read, and that the stream holds. Default: 65536. */
  readonly highWaterMark?: number | undefined;
  /** Gives strings, decoded so. Default: none, Buffers. */
  readonly encoding?: BufferEncoding | null | undefined;
}

/** What `file.writable` takes, as fs.createWriteStream has it. */
export interface WritableOptions extends StreamOptions {
  /** Bytes that wait before `write` answers false. Default: 16384. */
  readonly highWaterMark?: number | undefined;
  /** Of strings. Default: `'utf8'`. */
  readonly encoding?: BufferEncoding | null | undefined;
  /** Brings what was written to the device at the end: fsync. Default: false. */
  readonly flush?: boolean | undefined;
}

/** What `file.readableWebStream` takes. */
export interface ReadableWebStreamOptions {
  /** Closes the file when the stream ends or is cancelled. Default: false. */
  readonly autoClose?: boolean | undefined;
}

/** What `file.writeFile` writes: one piece, or several, one after the other. */
export type FileContents = Data | Iterable<Data> | AsyncIterable<Data>;

/**
 * An open file: `await port.open(path)`. Operations run on io_uring's READ, WRITE, FSYNC… | on a
 * small pool of native threads under epoll | as overlapped I/O on Windows.
 *
 * The memory of a read or a write is the operation's until its end, whatever happens (rule O2).
 * Memory of `port.allocate()` is used in place, and may be released as soon as the operation is
 * submitted; a program's own is copied, since it could be detached meanwhile.
 */
export interface FileHandle extends AwaitHandle {
  readonly kind: 'file';
  /**
   * The descriptor, for what other packages alone can, such as locks; the file stays the
   * port's. -1 when it is closed, and on Windows, where files of a port have none.
   */
  readonly fd: number;
  /** The path it was opened with; undefined for a duplicated descriptor. */
  readonly path: string | undefined;
  /**
   * Reads into `target`; resolves to the number of bytes, which may be less than asked for, and is
   * 0 at the end of the file (rule O8). Without a position: goes on where the last read or write
   * without one ended; several in flight follow each other. Memory that is not the port's is copied
   * to: where `memoryLimit` is reached that waits its turn, and `ERR_MEMORY_LIMIT` is what a read of
   * more than the limit gives, one in a chain, and one of a FIFO (rule M7).
   */
  read(target: ArrayBufferView, options?: ReadOptions): Operation<number>;
  read(
    target: ArrayBufferView,
    position: Position,
    options?: Omit<ReadOptions, 'position'>,
  ): Operation<number>;
  /** Resolves to a Buffer of its own. */
  read(options: OwnedReadOptions): Operation<Buffer>;
  /**
   * Reads into several pieces of memory, in order. Otherwise as `read`. At most 1024 pieces of the
   * port's memory.
   */
  readv(
    targets: readonly ArrayBufferView[],
    options?: AwaitOptions & PositionOptions,
  ): Operation<number>;
  readv(
    targets: readonly ArrayBufferView[],
    position: Position,
    options?: AwaitOptions,
  ): Operation<number>;
  /**
   * Writes all of `data` (short writes are continued); resolves to the number of bytes. Without a
   * position: goes on where the last read or write without one ended; a file opened for appending
   * is always written to at its end. Several writes in flight have no order unless linked.
   * An array is written as one piece; when any part of it is not the port's memory, all is copied.
   */
  write(data: Data | readonly Data[], options?: WriteOptions): Operation<number>;
  write(
    data: Data | readonly Data[],
    position: Position,
    options?: Omit<WriteOptions, 'position'>,
  ): Operation<number>;
  /** The same as `write` with an array. */
  writev(data: readonly Data[], options?: WriteOptions): Operation<number>;
  writev(
    data: readonly Data[],
    position: Position,
    options?: Omit<WriteOptions, 'position'>,
  ): Operation<number>;
  /** Brings data and metadata to the device: fsync. */
  sync(options?: AwaitOptions): Operation<void>;
  /** Brings data, and what is needed to find it, to the device: fdatasync. */
  datasync(options?: AwaitOptions): Operation<void>;
  /** Sets the length to `length` bytes. Default: 0. */
  truncate(length?: number, options?: AwaitOptions): Operation<void>;
  /**
   * Reserves space on the device for `length` bytes from `position`, and lengthens the file to it.
   */
  allocate(position: number, length: number, options?: AwaitOptions): Operation<void>;
  /**
   * Sets the permission bits: a number, or octal digits. On Windows whether the owner may write is
   * all there is, as for node:fs. fchmod on the pool, io_uring having none | fchmod |
   * SetFileInformationByHandle. Like `chown` and `utimes` it is `ERR_ACCESS_DENIED` under Node.js's
   * permission model.
   */
  chmod(mode: number | string, options?: AwaitOptions): Operation<void>;
  /**
   * Sets the owner and the group; -1 leaves one as it is. On Windows it succeeds and changes nothing,
   * as for node:fs: there are no such numbers. fchown | fchown | nothing.
   */
  chown(uid: number, gid: number, options?: AwaitOptions): Operation<void>;
  /**
   * Sets when it was accessed and modified, to the microsecond as far as the file system has them.
   * futimens | futimens | SetFileInformationByHandle.
   */
  utimes(atime: FileTime, mtime: FileTime, options?: AwaitOptions): Operation<void>;
  /** Size, times, owner, type: as `fs.Stats`, or `fs.BigIntStats`. */
  stat(options?: StatOptions & { readonly bigint?: false | undefined }): Operation<FileStatus>;
  stat(options: StatOptions & { readonly bigint: true }): Operation<BigIntFileStatus>;
  stat(options?: StatOptions): Operation<FileStatus | BigIntFileStatus>;
  /**
   * Reads what there is from where the last read or write without a position ended: resolves to a
   * Buffer of its own, or to a string with an encoding. The file stays open. `chunks` is faster for
   * what is large, and needs no memory for all of it at a time.
   */
  readFile(options?: ReadFileOptions & { readonly encoding?: null | undefined }): Operation<Buffer>;
  readFile(
    options: BufferEncoding | (ReadFileOptions & { readonly encoding: BufferEncoding }),
  ): Operation<string>;
  readFile(options?: ReadFileOptions | BufferEncoding | null): Operation<Buffer | string>;
  /**
   * Writes all of `data`, from where the last read or write without a position ended: what an
   * iterable gives, one piece after the other. What the file holds behind it stays: `truncate()`
   * first, or open it with `'w'`.
   */
  writeFile(data: FileContents, options?: WriteFileOptions | BufferEncoding): Operation<void>;
  /** The same as `writeFile`, as in node:fs: a file opened with `'a'` is written to at its end. */
  appendFile(data: FileContents, options?: WriteFileOptions | BufferEncoding): Operation<void>;
  /**
   * Reads the file in order, with several reads in flight ahead of the loop: `for await (const
   * chunk of file.chunks())`. The Buffers stay as they are; `lend: true` lends the port's memory,
   * without a copy: each chunk is then valid until the loop asks for the next one. Leaving the loop
   * cancels what is in flight; the file stays open.
   *
   * Ends at the end of the file; every chunk but the last has `size` bytes, except of a file
   * without positions (a FIFO, a terminal), which gives what there is. Where `memoryLimit` is
   * reached the loop reads on one chunk at a time, in turn with others (rule M7).
   */
  chunks(options?: FileChunkOptions): AsyncLoop<Buffer>;
  /**
   * Reads the file line by line: `for await (const line of file.readLines())`. As FileHandle's
   * readLines, lines come without the `\n`, `\r\n` or `\r` that ends them, and the last one needs no
   * end. U+2028 and U+2029, which may stand in JSON, end no line; Node.js 24 takes them for ends.
   * Unlike node:fs' it leaves the file open, and a line has a bound, `maxLength`.
   *
   * Reads ahead as `chunks` does, 4 times 64 KiB. Reads without a position go on where they were.
   */
  readLines(options?: ReadLinesOptions): AsyncLoop<string>;
  /**
   * The file as a stream of Node.js. With `start`, 4 reads are in flight ahead. The Buffers are the
   * program's.
   */
  readable(options?: ReadableOptions): Readable;
  /** The same as `readable`, as in node:fs. */
  createReadStream(options?: ReadableOptions): Readable;
  /**
   * The file as a stream of Node.js to write to. Pieces that were corked, or waited, are one write;
   * what is written is copied.
   */
  writable(options?: WritableOptions): Writable;
  /** The same as `writable`, as in node:fs. */
  createWriteStream(options?: WritableOptions): Writable;
  /** From where the last read without a position ended: a stream of bytes, as in node:fs. */
  readableWebStream(options?: ReadableWebStreamOptions): ReadableStream<Uint8Array>;
}

/**
 * An open file with a key: `await port.open(path, flags, { key })`. Reads and writes need a
 * position, unless the file has none (a FIFO); reads go into memory of `port.allocate()`. Everything
 * else as for `FileHandle`.
 */
export interface KeyedFile extends KeyedHandle {
  readonly kind: 'file';
  /** As `FileHandle.fd`. */
  readonly fd: number;
  /** The path it was opened with; undefined for a duplicated descriptor. */
  readonly path: string | undefined;
  /** A `read` packet answers: its `bytes` may be less than asked for, and are 0 at the end. */
  read(target: ArrayBufferView, options: KeyedReadOptions): void;
  read(
    target: ArrayBufferView,
    position?: Position,
    options?: Omit<KeyedReadOptions, 'position'>,
  ): void;
  /** A `read` packet answers. */
  readv(targets: readonly ArrayBufferView[], options: PacketOptions & PositionOptions): void;
  readv(targets: readonly ArrayBufferView[], position?: Position, options?: PacketOptions): void;
  /** A `written` packet answers, when all of it is written. */
  write(data: Data | readonly Data[], options: KeyedWriteOptions): void;
  write(
    data: Data | readonly Data[],
    position?: Position,
    options?: Omit<KeyedWriteOptions, 'position'>,
  ): void;
  /** The same as `write` with an array. */
  writev(data: readonly Data[], options: KeyedWriteOptions): void;
  writev(
    data: readonly Data[],
    position?: Position,
    options?: Omit<KeyedWriteOptions, 'position'>,
  ): void;
  /** A `synced` packet answers. */
  sync(options?: PacketOptions): void;
  /** A `synced` packet answers. */
  datasync(options?: PacketOptions): void;
  /** A `truncated` packet answers. */
  truncate(length?: number, options?: PacketOptions): void;
  /** An `allocated` packet answers. */
  allocate(position: number, length: number, options?: PacketOptions): void;
  /** A `changed` packet answers. */
  chmod(mode: number | string, options?: PacketOptions): void;
  /** A `changed` packet answers. */
  chown(uid: number, gid: number, options?: PacketOptions): void;
  /** A `changed` packet answers. */
  utimes(atime: FileTime, mtime: FileTime, options?: PacketOptions): void;
}

// ---- sockets

/** Options of a receive that is awaited. */
export interface ReceiveOptions extends AwaitOptions {
  /** Memory to receive into; without it bytes come in a Buffer of their own. */
  readonly into?: ArrayBufferView | undefined;
}

/** Options of a receive that is answered by packets. */
export interface KeyedReceiveOptions extends PacketOptions {
  /**
   * Memory of `port.allocate()` to receive into, once; without it the packet lends the bytes. Not
   * with `multishot`.
   */
  readonly into?: ArrayBufferView | undefined;
  /**
   * `received` packets keep coming until cancelled, failed or at the end; the last one has `more`
   * false. RECV multishot | re-armed | re-armed. Default: false.
   */
  readonly multishot?: boolean | undefined;
}

interface ReleaseOption {
  /**
   * Releases what of the data is the program's own memory of the port (`allocate`, `keep`) when it
   * is sent. Default: false.
   */
  readonly release?: boolean | undefined;
}

export interface SendOptions extends AwaitOptions, ReleaseOption {}
export interface KeyedSendOptions extends PacketOptions, ReleaseOption {}

interface FilePart {
  /** Where in the file to begin. Default: 0. */
  readonly position?: number | bigint | undefined;
  /** Bytes to send at most. Default: up to the end of the file. */
  readonly length?: number | undefined;
}

export interface SendFileOptions extends AwaitOptions, FilePart {}
export interface KeyedSendFileOptions extends PacketOptions, FilePart {}

/** What `socket.chunks` takes; `timeout` is for each receive. */
export interface SocketChunkOptions extends AwaitOptions {
  /**
   * Whether to lend the port's memory rather than give Buffers that stay: the bytes are then valid
   * until the loop asks for more. Spares a copy. Default: false.
   */
  readonly lend?: boolean | undefined;
  /**
   * Whether the socket is closed when the loop is left early (`break`, `return`, an exception).
   * Default: true, as for the streams of Node.js.
   */
  readonly closeOnReturn?: boolean | undefined;
}

/** What a connection has in both styles. */
export interface SocketState {
  readonly kind: 'socket';
  /**
   * `'seqpacket'`: a UNIX socket that keeps the borders of messages. Each `send` is a message, also of
   * several pieces, and each receive, packet and chunk is one; `end()` is the end, a message of no
   * bytes is not sent. A message that is longer than the port's `buffers.size`, or than `into`, ends
   * the receive with `EMSGSIZE` and is gone, as with recv(2); one that is longer than the system
   * takes (`sendBufferSize`), or of more than 1,024 pieces, fails to be sent with `EMSGSIZE`. What is
   * made of a stream is `ENOTSUP`: `sendFile`, sockets of `completion-port/node/net`, listeners of
   * pipelines.
   */
  readonly type: 'stream' | 'seqpacket';
  /** Bytes that were given to `send` and its like and are not with the kernel yet. */
  readonly bufferedAmount: number;
  /**
   * Bytes received by the connection, and bytes that the kernel took to be sent; what waits to be is
   * `bufferedAmount`. They are the connection's: of all threads and ports that have had it. On a
   * handle that is closed, or was handed off, what they were when this thread did that, or asked
   * last where another did.
   */
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /**
   * `bufferedAmount` from which on it has enough to send: 1 MiB where `connect` or `listen` was told
   * nothing else. 4,096 sends are enough, too. The same in each thread.
   */
  highWaterMark: number;
  /**
   * Milliseconds without a byte in either direction, while a receive or a send waits for the peer,
   * after which the connection ends: what is under way fails with `ETIMEDOUT`, whose `timeout` is
   * true, and so does what is asked of it later, but for `close()`; the peer receives its end (rule
   * O10). While nothing is under way no time passes. Setting it begins the time anew. 0 and Infinity:
   * no limit, which reads as 0. Default: what `connect` or `listen` was told, or 0. The same in each
   * thread, and at the port that it is handed to. Throws `ERR_HANDLE_CLOSED` when the socket is
   * closed. Deadlines of the library's own, in ticks of 20 ms, on every driver.
   */
  idleTimeout: number;
  /** Sends small pieces at once instead of gathering them: TCP_NODELAY. Default: true. */
  setNoDelay(noDelay?: boolean): this;
  /**
   * Probes an idle connection, for the first time after `initialDelay` milliseconds (two hours for
   * 0; at most 32,767,000), then each `interval` milliseconds (1000): after `count` (10) without an
   * answer it ends with `ETIMEDOUT`. The system counts in whole seconds. SO_KEEPALIVE, TCP_KEEPIDLE,
   * TCP_KEEPINTVL and TCP_KEEPCNT | SIO_KEEPALIVE_VALS.
   */
  setKeepAlive(enable?: boolean, initialDelay?: number, interval?: number, count?: number): this;
  /**
   * Changes what is given, one after the other: where the system refuses one, those before it are set.
   * `keepAlive` keeps an interval and a count of probes that were set before, and
   * `keepAliveInitialDelay` alone is for a connection that is probed (`ERR_INVALID_ARG_VALUE`).
   * Throws as the system does (`setsockopt`), or `ERR_HANDLE_CLOSED`.
   */
  setOptions(options: SocketOptions): this;
  /**
   * What the system says of them (getsockopt), as far as the socket has them. `ERR_HANDLE_CLOSED` where
   * it is closed, by whichever thread.
   */
  getOptions(): SocketOptions;
  /**
   * This side's end of the connection, as net.Socket's. This and the addresses below are undefined
   * of UNIX sockets, and as soon as the connection is closed, by whichever thread, or this one has
   * handed it off, also where they were asked for before: keep what is needed later.
   */
  address(): ListenerAddress | undefined;
  /** This side's address. */
  readonly localAddress: string | undefined;
  readonly localPort: number | undefined;
  readonly localFamily: 'IPv4' | 'IPv6' | undefined;
  /** The peer's address; undefined also when the peer has gone before it was first asked for. */
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  readonly remoteFamily: 'IPv4' | 'IPv6' | undefined;
  /** The descriptor; -1 when it is closed, and on Windows. The socket stays the port's. */
  readonly fd: number;
}

/**
 * A connection: `await port.connect()`, or accepted by a listener. Operations run on io_uring's RECV
 * and SEND | on recv and sendmsg when the socket is ready under epoll | on WSARecv and WSASend.
 *
 * A loop and an await give Buffers that stay; `chunks({ lend: true })` lends the port's memory.
 */
export interface SocketHandle extends AwaitHandle, SocketState {
  readonly kind: 'socket';
  /**
   * Receives what there is, at least one byte: resolves to a Buffer of its own, empty at the orderly
   * end of the stream (a reset is `ECONNRESET`, rule O8).
   */
  receive(options?: AwaitOptions): Operation<Buffer>;
  /** Receives into memory: resolves to the number of bytes, 0 at the end. */
  receive(into: ArrayBufferView, options?: AwaitOptions): Operation<number>;
  receive(options: ReceiveOptions & { readonly into: ArrayBufferView }): Operation<number>;
  /**
   * Sends all of `data`, in the order submitted (rule O7); resolves to the number of bytes when all
   * are with the kernel. The port's memory is sent from where it is: it may be released, or its time
   * of being lent end, as soon as this returns, but must not be changed until then. A program's own,
   * and strings (as UTF-8), are copied. An array is sent as one piece. `ERR_BUFFER_RELEASED` for
   * memory that was released before.
   *
   * One that is begun while the socket has enough to send (`highWaterMark`) waits for its turn as a
   * copy outside of the port's memory: await them, or look at `bufferedAmount`, or those copies have
   * no bound.
   */
  send(data: Data | readonly Data[], options?: SendOptions): Operation<number>;
  /**
   * Sends what `file` holds from `position` on, without a copy of it in the program: sendfile on
   * Linux | read and sent by native code on Windows. In the order submitted, among the sends (rule
   * O7). Resolves to the number of bytes when all are with the kernel: fewer than `length` where the
   * file ends before, 0 when there are none at `position`. It takes no memory and counts as 64 KiB
   * at most.
   *
   * `file` is a regular file, open for reading. One of the same port may be closed as soon as this
   * returns: its descriptor goes back when the last of what was submitted is sent. What is sent is
   * what the file holds when its turn comes.
   *
   * Throws `ERR_HANDLE_CLOSED` for a file that is closed, and `ERR_INVALID_ARG_VALUE` for one that
   * is not a regular file, or was opened with `direct`, past the page cache that the bytes come from.
   */
  sendFile(file: FileHandle | KeyedFile, options?: SendFileOptions): Operation<number>;
  /**
   * Sends files, sockets or listeners of a port, or descriptors of this process, along with `data`, to
   * whoever has the other end of this UNIX socket: 1 to 253 of them, and at least one byte, by default
   * a single 0. In the order submitted, among the sends. Resolves to the number of bytes. SCM_RIGHTS.
   *
   * They are duplicated as this is called: what was given stays the program's, which may close it at
   * once. The duplicates go back when all is with the kernel, or when the operation has failed. From
   * then on the kernel has them until the peer takes them with `receiveHandle`; it closes those whose
   * bytes the peer takes with something else, and those that are left when the peer's end is closed.
   * Where too many are on their way the kernel answers `ETOOMANYREFS`. The bytes count among what the
   * socket has to send (`bufferedAmount`), but one that is begun does not wait for its turn: await them.
   *
   * Throws `ENOTSUP` on Windows, and for a socket of TCP; `EBADF`, `EMFILE` and
   * `ERR_HANDLE_CLOSED` for what can't be duplicated.
   */
  sendHandle(
    handles: PassableHandle | number | readonly (PassableHandle | number)[],
    data?: Data,
    options?: AwaitOptions,
  ): Operation<number>;
  /**
   * Receives what there is, with the descriptors that come along. One brings those of one
   * `sendHandle`, and no bytes from behind it; in a stream there may be bytes from before it in front.
   * Bytes that `receive` or a loop takes bring no descriptors, which the kernel closes then. Those of
   * an operation that fails, of a worker that ends, or of a port that is closed are closed, and so are
   * those that come for a micro-thread which was cancelled and has left the operation. One that
   * `cancel()`, a signal or a timeout was to end may have succeeded before: look at what it resolves
   * to, which is the program's to close. `port.open(descriptor)`,
   * `port.listen({ fd })`, and `adoptSocket` of `completion-port/node` duplicate one for a port.
   * It takes as much of the port's memory as `length` says, from the call to its end, and fails with
   * `ERR_MEMORY_LIMIT` where there is none. Throws `ENOTSUP` as `sendHandle`.
   */
  receiveHandle(options?: ReceiveHandleOptions): Operation<ReceivedHandles>;
  /**
   * Sends `data`, if any, and ends the sending side when everything queued before is sent; the peer
   * then receives the end. Receiving goes on. shutdown(SHUT_WR). Nothing else ends a side: where the
   * peer has ended its own, the connection stays open until this is closed, as with `allowHalfOpen` of
   * node:net. A named pipe of Windows has no half that could be closed: its peer receives the end
   * when this is closed, behind all that was sent (rule O12).
   */
  end(data?: Data | readonly Data[], options?: AwaitOptions): Operation<void>;
  /**
   * Closes the connection with a reset, as `resetAndDestroy` of node:net does: what was not sent yet
   * is thrown away, and the peer receives `ECONNRESET`. SO_LINGER of 0, then `close()`; the same
   * operation each time. `ERR_HANDLE_CLOSED` when it was closed otherwise, since the peer saw an
   * orderly end then. The server of a named pipe of Windows receives an end (rule O12).
   */
  reset(): Operation<void>;
  /**
   * Receives until the end of the stream: `for await (const bytes of socket)`. The Buffers stay as
   * they are. An idle connection holds no memory (rule M3). The loop ends where the program closes
   * the socket; leaving it early closes the socket.
   */
  [Symbol.asyncIterator](): AsyncLoop<Buffer>;
  /**
   * The same, with a signal, a timeout for each receive, bytes that are lent, or `closeOnReturn`. A
   * loop that its signal or its timeout has ended leaves the socket open: another may go on.
   */
  chunks(options?: SocketChunkOptions): AsyncLoop<Buffer>;
}

/** What `sendHandle` sends. */
export type PassableHandle =
  FileHandle | KeyedFile | SocketHandle | KeyedSocket | ListenerHandle | KeyedListener;

/** What `receiveHandle` takes. */
export interface ReceiveHandleOptions extends AwaitOptions {
  /** Bytes at most, 1 to 1 MiB. Default: 4096. */
  readonly length?: number | undefined;
}

/** What `receiveHandle` resolves to. */
export interface ReceivedHandles {
  /** What came along with them, a byte at least; without bytes at the end of the stream. */
  readonly data: Buffer;
  /**
   * Descriptors of this process, in the order in which they were sent; none where plain bytes came.
   * They are the program's, to be closed or taken over, and are not inherited by child processes.
   */
  readonly descriptors: number[];
  /** More were sent than this process may have open: those are gone (MSG_CTRUNC). */
  readonly truncated: boolean;
}

/**
 * A connection with a key: `await port.connect({ key })`, `packet.accepted`. Everything as for
 * `SocketHandle`, but packets answer.
 *
 * What sends returns false when the socket has enough to send with it, which is sent all the same. A
 * `drain` packet follows when most of what was to be sent is out. `ERR_MEMORY_LIMIT` where there is
 * as much to send as the mark, and the port's memory is used up (rule M7).
 */
export interface KeyedSocket extends KeyedHandle, SocketState {
  readonly kind: 'socket';
  /** Receives what there is: a `received` packet lends the bytes. */
  receive(options?: KeyedReceiveOptions): void;
  receive(into: ArrayBufferView, options?: PacketOptions): void;
  /** A `sent` packet answers. False: see above. */
  send(data: Data | readonly Data[], options?: KeyedSendOptions): boolean;
  /** A `sent` packet answers. False: see above. */
  sendFile(file: FileHandle | KeyedFile, options?: KeyedSendFileOptions): boolean;
  /** A `sent` packet, where there is data, and an `ended` packet answer. False: see above. */
  end(data?: Data | readonly Data[], options?: PacketOptions): boolean;
  /**
   * Closes the connection with a reset: as `SocketHandle.reset`. A `closed` packet answers.
   * `ERR_HANDLE_CLOSED` also when it was handed off.
   */
  reset(): void;
}

// ---- listeners

/**
 * Where something listens. Of a UNIX socket, and of a named pipe, `address` is the path, `port` 0, and
 * `family` 'unix'. To connect there is `{ host: address, port }`, or `{ path: address }`; of all
 * addresses (`'::'`, `'0.0.0.0'`) `{ port }`.
 */
export interface ListenerAddress {
  readonly address: string;
  readonly port: number;
  readonly family: 'IPv4' | 'IPv6' | 'unix';
}

/** What a listener has in both styles. */
export interface ListenerState {
  readonly kind: 'listener';
  /** Whether it listens: until this thread closes it, or hands it off. */
  readonly listening: boolean;
  /**
   * Connections that it has accepted and that are open, wherever they are: in other threads, at other
   * ports, not taken by the program yet. One whose thread has died is closed, or another thread's.
   * Throws `ERR_HANDLE_CLOSED` when the listener is closed.
   */
  readonly connections: number;
  /**
   * As many as there may be at one time, in all threads; what comes beyond that is accepted and
   * closed at once, as by `net.Server`, and counted in `port.stats().refused`. So a client hears at
   * once that it has to go elsewhere, rather than wait in the backlog for its own timeout. To let it
   * wait there, `accept()` one by one, and the next when there is room. Infinity: no limit. 0: all are
   * closed. A lower number closes none that is open. Default: what `listen` was told. Throws
   * `ERR_HANDLE_CLOSED` when the listener is closed.
   */
  maxConnections: number;
}

/**
 * A listening socket: `await port.listen({ port })`. Accepting runs on io_uring's multishot ACCEPT |
 * on accept4 when the socket is ready under epoll | on AcceptEx.
 */
export interface ListenerHandle extends AwaitHandle, ListenerState {
  readonly kind: 'listener';
  /** The descriptor; -1 when it is closed, and on Windows. The socket stays the port's. */
  readonly fd: number;
  /** Where it listens; undefined when it is closed, by whichever thread, or handed off. */
  address(): ListenerAddress | undefined;
  /** Accepts one connection. */
  accept(options?: AwaitOptions): Operation<SocketHandle>;
  /**
   * Accepts until the listener is closed: `for await (const socket of listener)`. At most 64
   * connections are accepted ahead of the loop; those that it leaves behind are closed.
   */
  [Symbol.asyncIterator](): AsyncLoop<SocketHandle>;
  /**
   * The same, ended by a signal, or with `ETIMEDOUT` when the loop waits longer than `timeout` for a
   * connection.
   */
  sockets(options?: AwaitOptions): AsyncLoop<SocketHandle>;
}

export interface AcceptOptions extends PacketOptions {
  /** `accepted` packets keep coming. Default: false. */
  readonly multishot?: boolean | undefined;
}

/**
 * A listening socket with a key. `accepted` packets come by themselves from the start;
 * `packet.accepted` is the connection, with a unique key of its own. When one comes with an error and
 * without `more`, `accept({ multishot: true })` starts again.
 */
export interface KeyedListener extends KeyedHandle, ListenerState {
  readonly kind: 'listener';
  /** The descriptor; -1 when it is closed, and on Windows. The socket stays the port's. */
  readonly fd: number;
  /** Where it listens; undefined when it is closed, by whichever thread, or handed off. */
  address(): ListenerAddress | undefined;
  /** An `accepted` packet answers, or more of them. */
  accept(options?: AcceptOptions): void;
}

// ---- timers

export interface TimerStartOptions {
  /** Fires again and again: `true` after the same time, a number after so many milliseconds. */
  readonly repeat?: boolean | number | undefined;
}

/** A timer: `port.timer()`. Times are in milliseconds. Deadlines of the thread's own on every driver. */
export interface TimerHandle extends AwaitHandle {
  readonly kind: 'timer';
  /** Resolves after `delay` milliseconds: at most ten thousand years, and not Infinity. */
  wait(delay: number, options?: AwaitOptions): Operation<void>;
  /**
   * `for await (const count of timer.every(100))`: a turn each `interval` milliseconds; `count` is
   * how often the timer has fired since the last turn, more than 1 when the loop was late. Ends
   * when the timer is closed, and with `signal`; with `ETIMEDOUT` when the loop waits longer than
   * `timeout` for a turn.
   */
  every(interval: number, options?: AwaitOptions): AsyncLoop<number>;
}

/** A timer with a key: `port.timer({ key })`. */
export interface KeyedTimer extends KeyedHandle {
  readonly kind: 'timer';
  /** A `fired` packet after `delay` milliseconds, and again with `repeat`. */
  start(delay: number, options?: TimerStartOptions): void;
  /** Stops it; the last packet has the code `ECANCELED`. */
  stop(): void;
}

/** A handle of any kind and style; `kind` and `style` tell which. */
export type AnyHandle = AnyKeyedHandle | FileHandle | ListenerHandle | SocketHandle | TimerHandle;

/** A handle with a key, of any kind; `kind` tells which. */
export type AnyKeyedHandle = KeyedFile | KeyedListener | KeyedSocket | KeyedTimer;

// ---- packets

/**
 * What every packet has. **It is valid while the packet is at hand**: until the next packet is asked
 * for, or, in a handler of `consume`, until the handler returns. To read it later throws
 * `ERR_PACKET_RELEASED`; `toObject()` makes a copy that stays valid.
 *
 * `packets()` gives an object for each packet. `get` and `consume`, whose packets are dealt with
 * without awaiting anything, use 61 objects in turn: one that was kept for longer shows, every 61st
 * packet, the one that is at hand then (rule D11). With `COMPLETION_PORT_CHECK=memory` each has its
 * own, and every late reader is told.
 */
interface BasePacket<Type extends string> {
  /** What happened. */
  readonly type: Type;
  /** The key of the handle, or the one given to `post`. */
  readonly key: number;
  /** Bytes read, written, received or sent; 0 at the end of a file or stream. */
  readonly bytes: number;
  /**
   * The number of a `posted` packet; how often a timer has fired, of a `fired` one; undefined in others.
   * What came in a `message` is `message`, and its length `bytes`.
   */
  readonly value: number | undefined;
  /** Whether the operation failed: cheaper to ask than `error`. */
  readonly failed: boolean;
  /** `'ECONNRESET'`, …; undefined when the operation succeeded. Cheaper than `error`. */
  readonly code: string | undefined;
  /** The failure as Node.js shows it: `code`, `errno`, `syscall`. Made when first asked for. */
  readonly error: Error | undefined;
  /** The `tag` given with the operation; 0 when there was none. */
  readonly tag: number;
  /** Whether more packets of the same operation follow (rule O1). */
  readonly more: boolean;
  /** The new connection of an `accepted` packet; undefined in others. */
  readonly accepted: KeyedSocket | undefined;
  /** The bytes of a `received` packet, or of a `message` that is bytes; undefined in others. */
  readonly data: Buffer | undefined;
  /** What was posted, of a `message` packet; undefined in others. */
  readonly message: unknown;
  /**
   * The handle it is about, the same object each time in this thread. It may be closed before its
   * last packets are taken.
   */
  readonly handle: AnyKeyedHandle | undefined;
  /** A copy that stays valid; received bytes are copied too, unless released or sent on. */
  toObject(): PacketObject;
  /** For `JSON.stringify`: its numbers, without the bytes. Never throws, also when it was released. */
  toJSON(): object;
}

/** An operation of a file is done. */
export interface FilePacket extends BasePacket<
  'read' | 'written' | 'synced' | 'truncated' | 'allocated' | 'changed'
> {
  readonly handle: KeyedFile;
  readonly value: undefined;
  readonly accepted: undefined;
  readonly data: undefined;
}

/** A connection has come, or accepting failed. */
export interface AcceptedPacket extends BasePacket<'accepted'> {
  readonly handle: KeyedListener;
  readonly value: undefined;
  /** The new connection, under a key of its own; undefined where accepting failed. */
  readonly accepted: KeyedSocket | undefined;
  readonly data: undefined;
}

/**
 * Bytes have come. They are lent: their buffer returns to the port when the packet is no longer at
 * hand, unless `keep()` or `sendTo()` was called. Operations that were submitted with them have them
 * until their end.
 */
export interface ReceivedPacket extends BasePacket<'received'> {
  readonly handle: KeyedSocket;
  readonly value: undefined;
  readonly accepted: undefined;
  /**
   * The bytes, without a copy; undefined when there are none (an orderly end, a failure, memory of
   * the program's own). `ERR_BUFFER_RELEASED` when they were released or sent on.
   */
  readonly data: Buffer | undefined;
  /**
   * Keeps the received bytes beyond this packet; the program gives them to `port.release` later.
   */
  keep(): Buffer;
  /** Gives the buffer of the received bytes back now. A second time: `ERR_BUFFER_RELEASED`. */
  release(): void;
  /**
   * Sends the received bytes to `socket`, from where they are; native code releases their buffer
   * when they are sent. Answers as `socket.send` does. While `socket` has enough to send, nothing
   * more is received from the connection that these bytes came from (rule M4). Throws
   * `ERR_INVALID_STATE` without received bytes.
   */
  sendTo(socket: KeyedSocket, options?: PacketOptions): boolean;
  sendTo(socket: SocketHandle, options?: AwaitOptions): Operation<number>;
}

/** A send (`sent`) or an `end` (`ended`) is done; or most of what was to be sent is out (`drain`). */
export interface SentPacket extends BasePacket<'sent' | 'ended' | 'drain'> {
  readonly handle: KeyedSocket;
  readonly value: undefined;
  readonly accepted: undefined;
  readonly data: undefined;
}

/** A timer has fired. */
export interface FiredPacket extends BasePacket<'fired'> {
  /** How often since its last packet. */
  readonly value: number;
  readonly handle: KeyedTimer;
  readonly accepted: undefined;
  readonly data: undefined;
}

/** A number of `post` or `publish`. */
export interface PostedPacket extends BasePacket<'posted'> {
  /** The number; 0 where none was given. */
  readonly value: number;
  readonly handle: undefined;
  readonly accepted: undefined;
  readonly data: undefined;
}

/**
 * Anything else of `post` or `publish`: bytes or a value (rule Q3). `bytes`: how many it takes.
 */
export interface MessagePacket extends BasePacket<'message'> {
  readonly handle: undefined;
  readonly value: undefined;
  readonly accepted: undefined;
  /**
   * The bytes, where a Uint8Array was posted; undefined for other values. They are lent as received
   * ones are: until the packet is no longer at hand, in operations that were submitted with them until
   * their end. Others whom they were published to may have the same memory at hand: they are to be
   * read. `ERR_BUFFER_RELEASED` when they were released.
   */
  readonly data: Buffer | undefined;
  /** The value that was posted, a copy of it each time; of bytes the same as `data`. */
  readonly message: unknown;
  /**
   * A copy of the bytes in memory of the port, which the program gives to `port.release` later.
   * `ERR_MEMORY_LIMIT`; `ERR_INVALID_STATE` where it is no bytes.
   */
  keep(): Buffer;
  /** From now on the bytes are not at hand any more. A second time: `ERR_BUFFER_RELEASED`. */
  release(): void;
}

/**
 * The last packet of a handle (`closed`); the first one at its new port (`handedOff`); or the thread
 * that was at its key has died (`abandoned`, rule T1). The handle is undefined where this thread
 * never saw it, and where the key has none.
 */
export interface HandlePacket extends BasePacket<'closed' | 'handedOff' | 'abandoned'> {
  readonly handle: AnyKeyedHandle | undefined;
  readonly value: undefined;
  readonly accepted: undefined;
  readonly data: undefined;
}

/** One completion, or one posted message; `type` tells which. A minor version may add types. */
export type Packet =
  | AcceptedPacket
  | FilePacket
  | FiredPacket
  | HandlePacket
  | MessagePacket
  | PostedPacket
  | ReceivedPacket
  | SentPacket;

/** What happened. A minor version may add types: a `switch` needs a default. */
export type PacketType = Packet['type'];

/** A packet's contents, copied: stays valid. */
export interface PacketObject {
  readonly type: PacketType;
  readonly key: number;
  readonly handle: AnyKeyedHandle | undefined;
  readonly value: number | undefined;
  readonly tag: number;
  readonly bytes: number;
  readonly failed: boolean;
  readonly code: string | undefined;
  readonly error: Error | undefined;
  readonly more: boolean;
  readonly accepted: KeyedSocket | undefined;
  /** Received bytes, or a message's, in memory of their own. */
  readonly data: Buffer | undefined;
  readonly message: unknown;
}

/**
 * What can be posted, and arrives as a copy: a number, in a `posted` packet; anything else in a
 * `message` packet. A Uint8Array, or Buffer, arrives as bytes that are lent; other values as
 * `structuredClone` copies them, but for what it shares or moves (SharedArrayBuffer, MessagePort). At
 * most 64 MiB.
 */
export type Message = bigint | boolean | number | object | string | null;

// ---- the port

export type DriverName = 'io_uring' | 'epoll' | 'iocp';

export interface BufferOptions {
  /** Bytes of one buffer; 1024 to 16 MiB. Default: 32768. */
  readonly size?: number | undefined;
  /** Buffers of the port; 1 to 1048576. Default: 1024. */
  readonly count?: number | undefined;
}

export interface PortOptions {
  /**
   * Threads that may run on this port's packets at one time; 1 to 1024 (rule P1). Default: the
   * number of CPUs available to the process.
   */
  readonly concurrency?: number | undefined;
  /** Default: io_uring where the kernel grants it, else epoll (rule P3). */
  readonly driver?: DriverName | undefined;
  /** Posted messages the queue holds at most (rule Q2). Default: 65536. */
  readonly queueLimit?: number | undefined;
  /** The buffers that bytes are received into. */
  readonly buffers?: BufferOptions | undefined;
  /**
   * Bytes that `allocate`, copies of a program's own memory and documents of native stages may take.
   * What is released is kept for the next of its size, within the same limit. Connections share it:
   * those that have little to send may go beyond it, and so may one read of a file for each thread
   * (rule M7). Default: 1 GiB.
   */
  readonly memoryLimit?: number | undefined;
  /** Whether packets of one key are held by one thread at a time (rule D8). Default: true. */
  readonly serializeKeys?: boolean | undefined;
  /**
   * Microseconds that a thread which blocks in `get` looks for messages before it sleeps; 0 to
   * 1000. A message that comes meanwhile costs no system call and no wake-up, which takes ten times
   * as long; the CPU is busy meanwhile. One thread of the port looks at a time, and seldom while it
   * finds none. Default: 50, and 0 where the process has one CPU.
   */
  readonly spinMicroseconds?: number | undefined;
  /**
   * `'affine'`: packets stay with the thread that submitted their operation. Where several threads
   * submit operations on one handle, each gets its own in order, and nothing orders one thread's
   * among another's: not even the last one, of the close. Default: `'any'`.
   */
  readonly dispatch?: 'any' | 'affine' | undefined;
}

/**
 * Names a port to the other threads of the process; a plain value that can be posted to them. It is
 * valid within one copy of the package, of one version.
 */
export interface PortToken {
  /** Its number in the process. */
  readonly completionPort: number;
  /** Names the copy of the package, in this process, that the port belongs to. */
  readonly instance: string;
  readonly concurrency?: number | undefined;
}

/**
 * `K`: the type of `key`; undefined where there is none. Required where it is inferred from, since
 * TypeScript forgets about `undefined` when it infers from what is optional.
 */
type WithKey<K extends KeyOption | undefined> =
  | {
      /** Makes it answer in packets. Default: none, it is awaited. */
      readonly key: K;
      /**
       * Keeps the asynchronous context of the call, as `asyncResource` of the handle: packets come in
       * the port's own. Of a listener also that in which `packet.accepted` is first read, for the
       * connection. Default: false.
       */
      readonly asyncResource?: boolean | undefined;
    }
  | {
      /** Makes it answer in packets. Default: none, it is awaited. */
      readonly key?: undefined;
      readonly asyncResource?: false | undefined;
    };

/** What `port.open` takes beside `key`. */
export interface FileSettings extends AwaitOptions {
  /**
   * Ends the opening when it is aborted, and from then on closes the file; not any more when that was
   * handed off. For the opening alone there is `timeout`.
   */
  readonly signal?: AbortSignal | undefined;
  /** Permission bits of a new file. Default: 0o666. */
  readonly mode?: number | undefined;
  /**
   * Passes the page cache by: O_DIRECT. Memory (`port.allocate()`), positions and lengths then have
   * to be multiples of the device's block. Default: false.
   */
  readonly direct?: boolean | undefined;
}

/** What `port.open` takes. */
export type FileOptions<K extends KeyOption | undefined = undefined> = FileSettings & WithKey<K>;

/**
 * Options of the system's for a connection. A listener's connections inherit them. Those that Windows
 * has not are `ENOTSUP` there, at once; a UNIX socket has `recvBufferSize`, `sendBufferSize` and
 * `linger`, a listener at a named pipe the first two, which no connection of one can change.
 */
export interface SocketOptions {
  /**
   * TCP_NODELAY: small pieces go at once. Default: true, unlike `net`'s: what is sent leaves in
   * batches anyway, and with Nagle's algorithm the last piece of a message larger than a buffer
   * waits for the peer's delayed acknowledgement, 40 ms.
   */
  readonly noDelay?: boolean | undefined;
  /** Probes an idle connection, as `setKeepAlive` does. Default: false. */
  readonly keepAlive?: boolean | undefined;
  /**
   * Milliseconds before the first probe; 0: two hours. At most 32,767,000, and not Infinity, since it is
   * no limit: `keepAlive: false` probes never. Default: 0.
   */
  readonly keepAliveInitialDelay?: number | undefined;
  /**
   * Milliseconds between probes, in whole seconds, 1 to 32,767,000: TCP_KEEPINTVL, on Windows from
   * 10 (1709) on. Default: 1000.
   */
  readonly keepAliveInterval?: number | undefined;
  /** Probes without an answer that end it, 1 to 127: TCP_KEEPCNT. Default: 10. */
  readonly keepAliveCount?: number | undefined;
  /**
   * Milliseconds that what was sent may stay without an acknowledgement before the connection ends
   * with `ETIMEDOUT`; 0: the system's choice, a quarter of an hour on Linux. TCP_USER_TIMEOUT | in
   * whole seconds, TCP_MAXRT.
   */
  readonly userTimeout?: number | undefined;
  /**
   * Bytes of the system's buffer for what is received: SO_RCVBUF. Linux makes it twice as many, for
   * what it keeps beside them, at most twice `net.core.rmem_max`, and says so; it adjusts the size no
   * more from then on. Default: the system's choice.
   */
  readonly recvBufferSize?: number | undefined;
  /** The same for what is sent: SO_SNDBUF. */
  readonly sendBufferSize?: number | undefined;
  /**
   * The byte of that name in each packet, 0 to 255, whose lowest two bits are the system's: IP_TOS
   * and IPV6_TCLASS | `ENOTSUP` on Windows, which ignores it.
   */
  readonly typeOfService?: number | undefined;
  /**
   * SO_LINGER. 0: closing resets the connection, and throws away what was not sent, as `reset()`
   * does. Infinity, the default: the system goes on sending in the background. Times in between
   * are `ENOTSUP`: the call that closes would wait, and not even tell what became of the bytes;
   * `end()`, and a receive that brings the peer's end, do.
   */
  readonly linger?: number | undefined;
}

/** Options of the connections of `listen` and `connect`. */
export interface ConnectionOptions extends SocketOptions {
  /**
   * Bytes that a connection may have to send before `send` says, or waits, that it is enough; 1 to 4 GiB.
   * Default: 1 MiB.
   */
  readonly highWaterMark?: number | undefined;
  /**
   * Milliseconds without a byte, while a receive or a send waits, after which a connection ends with
   * `ETIMEDOUT`: see `SocketState`. Default, and for 0 and Infinity: no limit.
   */
  readonly idleTimeout?: number | undefined;
}

/** Where to listen. */
export type ListenPlace =
  | {
      /** 0: one the system picks. */
      readonly port: number;
      /** Name or address. Default: '::', or '0.0.0.0' where there is no IPv6. */
      readonly host?: string | undefined;
      /** IPV6_V6ONLY. Default: false. */
      readonly ipv6Only?: boolean | undefined;
      readonly path?: undefined;
      readonly fd?: undefined;
      readonly readableAll?: undefined;
      readonly writableAll?: undefined;
      readonly type?: undefined;
    }
  | {
      /**
       * A UNIX socket of that name, whose file is removed when the listener is closed. One that
       * begins with NUL is abstract, a name without a file. Errors are `node:net`'s: `EADDRINUSE`
       * where there is such a file, also one that a program has left behind, `EACCES` where there is
       * no such directory, `EINVAL` for more than 107 bytes. On Windows a named pipe of this machine,
       * `\\.\pipe\name` or `\\?\pipe\name`: `EINVAL` for other paths, `ENAMETOOLONG` for more than
       * 256 characters, `EADDRINUSE` as long as anybody has an end of a pipe of that name.
       * bind, listen, accept | CreateNamedPipeW, ConnectNamedPipe.
       */
      readonly path: string;
      /**
       * Lets all users read from the file, that is nothing alone. Default: false. chmod | the pipe's
       * access list; Windows' own lets everyone read, and who made the pipe, and administrators, write.
       */
      readonly readableAll?: boolean | undefined;
      /** Lets all users write to the file, and so connect. Default: false. Likewise. */
      readonly writableAll?: boolean | undefined;
      /**
       * `'seqpacket'`: its connections keep the borders of messages (SOCK_SEQPACKET). Each send is a
       * message, and each receive brings one. Default: `'stream'`. `ENOTSUP` on Windows.
       */
      readonly type?: 'stream' | 'seqpacket' | undefined;
      readonly port?: undefined;
      readonly host?: undefined;
      readonly ipv6Only?: undefined;
      readonly fd?: undefined;
    }
  | {
      /**
       * A socket that listens already, such as the first of systemd's (`LISTEN_FDS`), 3. It is
       * duplicated, and made non-blocking; the number stays the caller's. What is set of it is the
       * socket's, and so for all who have it; `backlog` and `reusePort` can't be, and are
       * `ERR_INVALID_ARG_VALUE`. `ENOTSUP` on Windows.
       */
      readonly fd: number;
      readonly port?: undefined;
      readonly host?: undefined;
      readonly ipv6Only?: undefined;
      readonly path?: undefined;
      readonly readableAll?: undefined;
      readonly writableAll?: undefined;
      readonly type?: undefined;
    };

/** What `port.listen` takes beside the place and `key`. */
export interface ListenSettings extends ConnectionOptions {
  /** Connections that wait to be accepted at most. Default: 511. */
  readonly backlog?: number | undefined;
  /**
   * SO_REUSEPORT: several sockets may listen on the port, and the system spreads connections over
   * them. Default: false. Windows has no such thing (ENOTSUP): there one listener with a key does,
   * whose connections go to all threads of the port.
   */
  readonly reusePort?: boolean | undefined;
  /**
   * Milliseconds, in whole seconds, for which a connection that is set up waits for its first bytes
   * before it is accepted: TCP_DEFER_ACCEPT | `ENOTSUP` on Windows. Default: 0, it is accepted
   * at once.
   */
  readonly deferAccept?: number | undefined;
  /**
   * How many connections may bring bytes along with their first packet before they are set up:
   * TCP_FASTOPEN, where the system allows it (`net.ipv4.tcp_fastopen`, bit 2) | any number from 1 on.
   * Default: 0, none.
   */
  readonly fastOpen?: number | undefined;
  /** Connections that may be open at one time: see `ListenerState`. Default: Infinity, no limit. */
  readonly maxConnections?: number | undefined;
  /**
   * Ends setting up when it is aborted, and from then on closes the listener; not any more when that
   * was handed off.
   */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds for setting up. Default, and for 0 and Infinity: no limit. */
  readonly timeout?: number | undefined;
}

/** What `port.listen` takes. */
export type ListenOptions<K extends KeyOption | undefined = undefined> = ListenSettings &
  ListenPlace &
  WithKey<K>;

/** What `port.connect` takes beside the place and `key`. */
export interface ConnectSettings extends AwaitOptions, ConnectionOptions {
  /**
   * The first bytes that are sent go along with the first packet, where the peer has allowed that
   * before: TCP_FASTOPEN_CONNECT (Linux 4.11). `connect` then resolves before anything was
   * sent, and the first send fails where there is nobody. `ENOTSUP` on Windows. Default: false.
   */
  readonly fastOpen?: boolean | undefined;
  /**
   * Ends the attempt when it is aborted, and from then on closes the connection, as that of
   * `net.connect` destroys it; not any more when that was handed off. For the attempt alone there is
   * `timeout`.
   */
  readonly signal?: AbortSignal | undefined;
}

/** Where to connect to. */
export type ConnectPlace =
  | {
      readonly port: number;
      /**
       * Name or address. Default: 'localhost'. Where a name has several addresses, they are tried in
       * turn, those of IPv6 and IPv4 alternating: the next one when the last has failed, or has not
       * answered for 250 ms (RFC 8305, as `autoSelectFamily` of node:net).
       */
      readonly host?: string | undefined;
      /**
       * A numeric address of this machine that the connection is to come from; of `host` only
       * addresses of its family are tried. `EADDRNOTAVAIL` where it is not this machine's. Default:
       * the system's choice.
       */
      readonly localAddress?: string | undefined;
      /** The port that it is to come from: `EADDRINUSE` where that has one. Default: 0, any. */
      readonly localPort?: number | undefined;
      readonly path?: undefined;
      readonly type?: undefined;
    }
  | {
      /**
       * A UNIX socket of that name; one that begins with NUL is abstract. On Windows a named pipe:
       * `ENOENT` where nobody serves it, `EACCES` where this user may not, or it has one direction
       * (open that as a file), and `ETIMEDOUT` where the server has had no instance to spare for half
       * a minute. socket, connect | CreateFileW.
       */
      readonly path: string;
      /** As that of `listen`: `EPROTOTYPE` where the listener is of the other type. */
      readonly type?: 'stream' | 'seqpacket' | undefined;
      readonly port?: undefined;
      readonly host?: undefined;
      readonly localAddress?: undefined;
      readonly localPort?: undefined;
    };

/** What `port.connect` takes. */
export type ConnectOptions<K extends KeyOption | undefined = undefined> = ConnectSettings &
  ConnectPlace &
  WithKey<K>;

/** What `port.timer` takes. */
export type TimerOptions<K extends KeyOption | undefined = undefined> = WithKey<K>;

/** What `port.consume` takes. */
export interface ConsumeOptions {
  /**
   * Calls the handler in the asynchronous context of the packet's handle, where that has kept one
   * (`asyncResource` of `open`, `listen`, `connect` and `timer`). Default: false, in the port's own.
   */
  readonly asyncResource?: boolean | undefined;
}

/** What `port.get` returns, and `for…of` goes over. */
export interface PacketIterator {
  next(): IteratorResult<Packet, undefined>;
  /** What a loop calls that is left early: the packets that are left go back to the queue. */
  return(): IteratorResult<Packet, undefined>;
  [Symbol.iterator](): this;
}

/** What `port.consume` returns. */
export interface Consumer extends Disposable {
  /** Takes no more packets. */
  stop(): void;
  /**
   * Resolves when it takes no more packets: it was stopped, this thread has left the port, or a
   * thread has closed it (`port.closed` tells).
   */
  readonly finished: Promise<void>;
}

/** What `port.lease` returns. */
export interface Lease extends Disposable {
  /** The memory. `ERR_BUFFER_RELEASED` when it was released, or the port is closed. */
  readonly bytes: Buffer;
  /** Gives it back, as `port.release` does. No effect when it was released, or the port is closed. */
  release(): void;
}

/**
 * How often which values came up to now, in the words of `Histogram` of node:perf_hooks. Values are
 * known to a 32nd of their size, and exactly below 64. Of none: 0, and NaN as the mean.
 */
export interface Histogram {
  /** How many values. */
  readonly count: number;
  readonly min: number;
  readonly max: number;
  readonly mean: number;
  /**
   * The value that so many percent are not above; `percentile` greater than 0 and at most 100, or
   * `ERR_OUT_OF_RANGE`.
   */
  percentile(percentile: number): number;
  /** The same numbers, and some percentiles. */
  toJSON(): object;
}

/** What `port.stats()` returns. Counts are of the whole port unless said otherwise. */
export interface PortStats {
  /** Operations submitted, and completed, so far. */
  readonly submitted: number;
  readonly completed: number;
  /** Batches of packets taken so far. */
  readonly batches: number;
  readonly systemCalls: number;
  /** How often a waiting thread was woken. */
  readonly wakeUps: number;
  /** Packets taken over from a thread that had more than it could run. */
  readonly steals: number;
  /** Packets taken back from a thread that had taken them and was too long in another's handler. */
  readonly takenBack: number;
  /** Packets in the queue. */
  readonly queueDepth: number;
  readonly freeBuffers: number;
  /** Attached threads; those running, and waiting for packets. */
  readonly threads: number;
  readonly running: number;
  readonly waiting: number;
  /** Open handles. */
  readonly handles: number;
  /** Bytes `allocate` has given out. */
  readonly allocatedBytes: number;
  /**
   * Connections closed as they came: beyond `maxConnections` of their listener, or because a pipeline
   * had no record for them.
   */
  readonly refused: number;
  /**
   * Microseconds that packets, and answers to awaited operations, were in the queue before a thread
   * took them: in all threads, since the port was made. Each is queued when a thread fetches it from
   * the system, so it tells how long packets wait for threads of the port rather than how long a
   * thread is busy, which `monitorEventLoopDelay` of Node.js tells. Messages do not count: the time
   * of a post is not looked at.
   */
  readonly queueWaitMicroseconds: Histogram;
}

/**
 * One queue through which every finished I/O operation comes back, shared by all threads of the
 * process: io_uring or epoll on Linux, an I/O completion port on Windows.
 *
 * Throws `ERR_PORT_CLOSED` from everything that it does once it is closed; what it was (`driver`,
 * `concurrency`, `token`) can still be read, and to close, to leave or to unref it again does nothing.
 */
export interface CompletionPort extends AsyncDisposable {
  /** What carries operations out here. */
  readonly driver: DriverName;
  /** Why `driver` is not the first choice; empty when it is (rule P3). */
  readonly driverReason: string;
  /** Threads that may run on its packets at one time. */
  readonly concurrency: number;
  /**
   * Names the port to other threads: `CompletionPort.attach(token)` (rule P2). A port that is posted
   * itself arrives as an object that has it, which `attach` takes as well.
   */
  readonly token: PortToken;
  /** Whether this thread has left the port, or the port is closed. */
  readonly closed: boolean;

  /**
   * Opens a file; `path` can be a descriptor, which is duplicated. Flags as in `fs.open`, strings
   * or numbers. Rejects as `fs.promises.open` does (`ENOENT`, …). OPENAT | open on the pool |
   * CreateFileW.
   */
  open<K extends KeyOption | undefined = undefined>(
    path: string | Buffer | URL | number,
    flags?: string | number,
    options?: FileOptions<K>,
  ): Operation<ByKey<K, FileHandle, KeyedFile>>;
  /**
   * Listens for connections over TCP, or UNIX sockets and named pipes (`path`). Rejects as
   * `net.Server` emits (`EADDRINUSE`, …). With a key:
   * connections are accepted from now on, and arrive as `accepted` packets.
   */
  listen<K extends KeyOption | undefined = undefined>(
    options: ListenOptions<K>,
  ): Operation<ByKey<K, ListenerHandle, KeyedListener>>;
  /**
   * Connects to a server over TCP, to the addresses of `host`, one after another, or over a UNIX
   * socket or a named pipe (`path`). Rejects with the last
   * failure, as `net.Socket` emits it (`ECONNREFUSED`, …).
   */
  connect<K extends KeyOption | undefined = undefined>(
    options: ConnectOptions<K>,
  ): Operation<ByKey<K, SocketHandle, KeyedSocket>>;
  /** Makes a timer. */
  timer<K extends KeyOption | undefined = undefined>(
    options?: TimerOptions<K>,
  ): ByKey<K, TimerHandle, KeyedTimer>;

  /**
   * Takes `size` bytes of the port's memory: aligned to 4,096 bytes, not cleared, the same in each
   * thread; the kernel reads and writes it in place. Give it back with `release`; what is left
   * is released when the port is closed, or this thread leaves it. `ERR_MEMORY_LIMIT` when
   * `memoryLimit` is reached.
   */
  allocate(size: number): Buffer;
  /**
   * Gives memory back: what `allocate` returned, what `packet.keep()` returned, or any view of it.
   * Operations that were submitted before keep it until they end; for the program it is gone: its
   * views have no bytes any more, and to use one is `ERR_BUFFER_RELEASED`, as it is to release it
   * a second time. `ERR_INVALID_ARG_VALUE` for memory that is not the port's, or only lent (rule M2).
   */
  release(buffer: ArrayBufferView): void;

  /**
   * Memory of the port that is released when the scope ends: `using lease = port.lease(4096)` takes
   * it as `allocate` does; `using lease = port.lease(packet.keep())` releases what there is already.
   */
  lease(memory: number | Buffer): Lease;

  /**
   * Queues a message: a number is a `posted` packet, anything else a `message` packet (rule Q3).
   * `ERR_QUEUE_FULL` when `queueLimit` is reached (rule Q2), `ERR_MEMORY_LIMIT` when `memoryLimit` is,
   * a DataCloneError for what can't be copied. Bytes are copied by the call.
   *
   * `undefined` is no message, and throws (`ERR_INVALID_ARG_TYPE`): it would be a value that was
   * forgotten, and arrive as a 0 that nobody meant.
   */
  post(key: number, message: Message): void;
  /** Queues a 0, which just says that there is something. */
  post(key: number): void;
  /** The same as `post`; false when the queue is full. */
  tryPost(key: number, message: Message): boolean;
  /** The same of a 0. */
  tryPost(key: number): boolean;
  /**
   * Queues one message for each of the keys, in order, and as often as it stands there. Its bytes are
   * in the port's memory once, however many keys there are. All are queued or, where the queue has no
   * room for so many, none: `ERR_QUEUE_FULL`; `ERR_OUT_OF_RANGE` when it never has, since they are
   * more than `queueLimit`. Else as `post`.
   */
  publish(keys: Uint32Array | readonly number[], message: Message): void;
  /** The same; false when the queue has no room for all. */
  tryPublish(keys: Uint32Array | readonly number[], message: Message): boolean;
  /**
   * Resolves when the queue has room for messages: at once when there is some, else when a quarter
   * of it is free.
   */
  room(options?: AwaitOptions): Operation<void>;

  /**
   * Waits, without the event loop, for packets: from 1 to `max` (at most 256) of them, or none when
   * `timeout` milliseconds pass first; 0 polls (rule D6). For workers that do nothing else. `for
   * (const packet of port.get())`: see `Packet` for how long one is valid. Packets that the loop
   * leaves behind go back to the queue. Throws `ERR_PORT_CLOSED` when the port is closed meanwhile,
   * `ERR_INVALID_STATE` in a thread that takes packets on its event loop (`consume`, `packets`), and
   * where without a `timeout` it would wait for ever: no handle with a key is open, nothing is under
   * way or queued, and no other thread was told of the port (`token`). That is looked at again when
   * operations that are awaited have ended: whoever awaits them goes on in the event loop alone.
   */
  get(max?: number, timeout?: number): PacketIterator;
  /**
   * Calls `handler` for each packet, on the event loop: the fastest way to take packets there. One
   * consumer for each thread: `ERR_INVALID_STATE` otherwise. What the handler throws is an uncaught
   * exception; packets go on. It keeps the process alive until `stop()`, also where nothing can come,
   * since any callback may begin something: see `unref`. A handler must not be async: one that returns a promise is refused,
   * once, with `ERR_INVALID_RETURN_VALUE`, which is an uncaught exception.
   */
  consume(handler: (packet: Packet) => void, options?: ConsumeOptions): Consumer;
  /**
   * The packets, on the event loop: `for await (const packet of port.packets())`. The key of a
   * packet is this thread's until the loop asks for the next one, or awaits something (rule D8).
   * The loop ends when this thread closes or leaves the port, and with `ERR_PORT_CLOSED` when another
   * one closes it. It ends with `signal`, and with `ETIMEDOUT` when it waits longer than `timeout`;
   * without them it waits as long as the port is open, and keeps the process alive.
   */
  packets(options?: AwaitOptions): AsyncLoop<Packet>;
  /**
   * Runs `fn`, which blocks, while the port lets another thread run in this one's place (rule D4).
   * `ERR_INVALID_RETURN_VALUE` when it returns a promise: it is not done then.
   */
  blocking<T>(fn: () => T): T;

  stats(): PortStats;
  /** Lets an active `consume` or `packets` keep the process alive, which is the default. */
  ref(): this;
  /** Lets the process end although packets are waited for. */
  unref(): this;
  /** Whether an active `consume` or `packets` would keep the process alive; not of a closed port. */
  hasRef(): boolean;
  /**
   * Closes the port for all threads: cancels what is in flight, closes all handles, frees the
   * memory (rule T2). Threads that wait get `ERR_PORT_CLOSED` (rule D10); a handler of `consume` is
   * not called any more. The same promise each time.
   */
  close(): Promise<void>;
  /**
   * Leaves the port: this thread's operations are cancelled, its handles of await style closed;
   * the port goes on for the other threads, and ends with the last.
   */
  detach(): void;
  /** For `JSON.stringify`, as text for people and logs: what `util.inspect` shows. Never throws. */
  toJSON(): object;
  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** The class. */
export interface CompletionPortConstructor {
  readonly prototype: CompletionPort;
  /** Makes a port and attaches the calling thread. */
  new (options?: PortOptions): CompletionPort;
  /**
   * Attaches the calling thread to a port of this process. In a thread that is attached already:
   * the same object. Throws `ERR_PORT_CLOSED` when there is no such port, `ERR_PORT_FOREIGN` for one
   * of another copy of the package.
   */
  attach(port: PortToken | CompletionPort): CompletionPort;
}

// ---- channels

/** What a tracing channel adds to its context when what it tells of has ended. */
export interface TraceOutcome<Result> {
  result?: Result;
  error?: unknown;
}

/**
 * What the channels of `node:diagnostics_channel` are given, by their names: those of tracing
 * channels (`tracingChannel`), with `result` or `error` at their end, and of the others (`channel`).
 * docs/guides/observability.md says when. Types of stages: `StageChannelMessages`.
 */
export interface ChannelMessages {
  'completion-port:file:open': TraceOutcome<FileHandle | KeyedFile> & {
    readonly port: CompletionPort;
    readonly path: string | Buffer | URL | number;
    readonly flags: string | number;
    readonly options: FileOptions<KeyOption | undefined>;
  };
  'completion-port:socket:connect': TraceOutcome<SocketHandle | KeyedSocket> & {
    readonly port: CompletionPort;
    readonly options: ConnectOptions<KeyOption | undefined>;
  };
  'completion-port:listener:listen': TraceOutcome<ListenerHandle | KeyedListener> & {
    readonly port: CompletionPort;
    readonly options: ListenOptions<KeyOption | undefined>;
  };
  'completion-port:handle:close': TraceOutcome<void> & { readonly handle: AnyHandle };
  'completion-port:handle:handOff': TraceOutcome<void> & {
    readonly handle: AnyKeyedHandle;
    readonly target: CompletionPort | PortToken;
    readonly key: KeyOption | undefined;
  };
  'completion-port:socket:accepted': {
    readonly socket: SocketHandle | KeyedSocket;
    readonly listener: ListenerHandle | KeyedListener | undefined;
  };
  'completion-port:socket:dropped': {
    readonly socket: SocketHandle;
    readonly listener: ListenerHandle;
  };
  'completion-port:handle:closed': { readonly handle: AnyHandle };
}

// ---- errors

/**
 * The codes of this package's own errors; the system's (`ECONNRESET`, …) come beside them. A minor
 * version may add some. docs/errors.md has the cause and the remedy of each.
 */
export type ErrorCode =
  | 'ABORT_ERR'
  | 'ERR_ACCESS_DENIED'
  | 'ERR_ALREADY_ASSOCIATED'
  | 'ERR_BUFFER_RELEASED'
  | 'ERR_CHANNEL_CLOSED'
  | 'ERR_COMPLETION_PORT_BINDING'
  | 'ERR_CONNECTION_GONE'
  | 'ERR_CONNECTION_LIMIT'
  | 'ERR_CONNECTION_RELEASED'
  | 'ERR_ENDLESS_TRANSITIONS'
  | 'ERR_HANDLE_CLOSED'
  | 'ERR_INSPECTOR_PAGE'
  | 'ERR_INTERNAL'
  | 'ERR_INVALID_ARG_TYPE'
  | 'ERR_INVALID_ARG_VALUE'
  | 'ERR_INVALID_RETURN_VALUE'
  | 'ERR_INVALID_STATE'
  | 'ERR_LINE_TOO_LONG'
  | 'ERR_MEMORY_LIMIT'
  | 'ERR_NOT_OVERLAPPED'
  | 'ERR_NOT_SUPPORTED'
  | 'ERR_OPERATIONS_PENDING'
  | 'ERR_OUT_OF_RANGE'
  | 'ERR_PACKET_RELEASED'
  | 'ERR_PEER_MISSING'
  | 'ERR_PIPELINE_CLOSED'
  | 'ERR_POLICY_CLOSED'
  | 'ERR_POOL_CLOSED'
  | 'ERR_PORT_CLOSED'
  | 'ERR_PORT_FOREIGN'
  | 'ERR_QUEUE_FULL'
  | 'ERR_STAGE_MODULE'
  | 'ERR_STAGE_RECORD'
  | 'ERR_STAGE_THREAD_EXIT'
  | 'ERR_STREAM_PREMATURE_CLOSE'
  | 'ERR_TASK_MODULE'
  | 'ERR_THROWN'
  | 'ERR_UNKNOWN_STAGE'
  | 'ERR_UNKNOWN_STATE'
  | 'ERR_WORKER_DIED';
