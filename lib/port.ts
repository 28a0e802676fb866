/**
 * The completion port, as one thread sees it.
 */
import { inspect } from 'node:util';
import { binding, Kind, type NativeLane, type PortOptions as NativeOptions } from './binding';
import { connect, type ConnectOptions } from './connecting';
import { HandlerConsumer, PacketStream, type Consumer } from './consumers';
import { invalidState, queueFull, systemError } from './errors';
import type { File } from './file';
import { openFlags } from './flags';
import { asNothing, closeHandle, keyOf, type KeyOption, type Style } from './handle';
import { Lane } from './lane';
import type { TcpListener } from './listener';
import { listen, openDescriptor, openPath, pathBytes, type ListenOptions } from './opening';
import { Operation, OPERATION_OPTIONS, type OperationOptions } from './operation';
import type { Packet } from './packet';
import { mayOpen } from './permission';
import type { TcpSocket } from './socket';
import { Timer } from './timer';
import * as validate from './validate';

export type { ConnectOptions } from './connecting';
export type { ListenOptions } from './opening';

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
   * those that have little to send may go beyond it (rule M7). Default: 1 GiB.
   */
  readonly memoryLimit?: number | undefined;
  /** Whether packets of one key are held by one thread at a time (rule D8). Default: true. */
  readonly serializeKeys?: boolean | undefined;
  /**
   * Microseconds that a thread which blocks in `get` looks for messages before it sleeps; 0 to
   * 1000. A message that comes meanwhile costs no system call and no wake-up, which takes ten times
   * as long; the CPU is busy meanwhile. One thread of the port looks at a time, and seldom while it
   * is in vain. Default: 50, and 0 where the process has one CPU.
   */
  readonly spinMicroseconds?: number | undefined;
  /**
   * `'affine'`: packets stay with the thread that submitted their operation. Where several threads
   * submit operations on one handle, each gets its own in order, and nothing orders one thread's
   * among another's: not even the last one, of the close. Default: `'any'`.
   */
  readonly dispatch?: 'any' | 'affine' | undefined;
}

/** Names a port to the other threads of the process; a plain value that can be posted to them. */
export interface PortToken {
  readonly completionPort: number;
  readonly concurrency?: number | undefined;
}

export interface FileOptions extends OperationOptions {
  /** Permission bits of a new file. Default: 0o666. */
  readonly mode?: number | undefined;
  /** Makes it answer in packets. Default: await style. */
  readonly key?: KeyOption | undefined;
  /**
   * Passes the page cache by: O_DIRECT. Memory (`port.allocate()`), positions and lengths then have
   * to be multiples of the device's block. Default: false.
   */
  readonly direct?: boolean | undefined;
}

export interface TimerHandleOptions {
  /** Makes it answer in packets. Default: await style. */
  readonly key?: KeyOption | undefined;
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
  /** Connections closed at once because a pipeline had no record for them. */
  readonly refused: number;
}

const PORT_OPTIONS = [
  'concurrency',
  'driver',
  'queueLimit',
  'buffers',
  'memoryLimit',
  'serializeKeys',
  'spinMicroseconds',
  'dispatch',
];
const FILE_OPTIONS = ['mode', 'key', 'direct', ...OPERATION_OPTIONS];

const MOST_PACKETS = 256;
/** Somewhat more than a wake-up takes: two threads that wait for each other find to one another. */
const SPIN = binding.availableParallelism() > 1 ? 50 : 0;
const GREATEST_BUFFERS = 2 ** 32 - 1;
/** Receive buffers a port has beyond `count`, for its threads. */
const RESERVED_BUFFERS = 1024;

/** The ports this thread is attached to. */
const attached = new Map<number, CompletionPort>();

/**
 * One queue through which every finished I/O operation comes back, shared by all threads of the
 * process: io_uring or epoll on Linux, an I/O completion port on Windows.
 *
 * Throws `ERR_PORT_CLOSED` from everything once it is closed.
 */
export class CompletionPort implements AsyncDisposable {
  /** What carries operations out here. */
  readonly driver: DriverName;
  /** Why `driver` is not the first choice; empty when it is (rule P3). */
  readonly driverReason: string;
  /** Threads that may run on its packets at one time. */
  readonly concurrency: number;
  /** Names the port to other threads: `CompletionPort.attach(token)` (rule P2). */
  readonly token: PortToken;

  /** @internal */
  readonly lane: Lane;
  private closingPromise: Promise<void> | undefined = undefined;

  /** Makes a port and attaches the calling thread. */
  constructor(options?: PortOptions);
  /** @internal */
  constructor(options: PortOptions | undefined, existing: NativeLane, concurrency: number);
  constructor(options: PortOptions = {}, existing?: NativeLane, known?: number) {
    const native = existing ?? create(options);
    this.concurrency = known ?? options.concurrency ?? binding.availableParallelism();
    this.driver = native.driver as DriverName;
    this.driverReason = native.driverReason;
    this.token = Object.freeze({
      completionPort: native.portId,
      concurrency: this.concurrency,
    });
    this.lane = new Lane(this, native, () => attached.delete(native.portId));
    attached.set(native.portId, this);
  }

  /**
   * Attaches the calling thread to a port of this process. In a thread that is attached already:
   * the same object. Throws `ERR_PORT_CLOSED` when there is no such port.
   */
  static attach(token: PortToken): CompletionPort {
    if (typeof token !== 'object' || token === null) {
      throw validate.invalidType('token', 'of type object', token);
    }
    const id = validate.u32(token.completionPort, 'token.completionPort');
    const { concurrency = binding.availableParallelism() } = token;
    const known = attached.get(id);
    if (known !== undefined) return known;
    const native = laneOf(() => binding.attachPort(id), 'attach');
    return new CompletionPort(undefined, native, concurrency);
  }

  /** Whether this thread has left the port, or the port is closed. */
  get closed(): boolean {
    return this.lane.closed || this.lane.closing;
  }

  // ---- handles

  /**
   * Opens a file; `path` can be a descriptor, which is duplicated. Flags as in `fs.open`, strings
   * or numbers. Rejects as `fs.promises.open` does (`ENOENT`, …). OPENAT | open on the pool |
   * CreateFileW.
   */
  open(
    path: string | Buffer | URL | number,
    flags: string | number | undefined,
    options: FileOptions & { readonly key: KeyOption },
  ): Operation<File<'packet'>>;
  open(
    path: string | Buffer | URL | number,
    flags?: string | number,
    options?: FileOptions & { readonly key?: undefined },
  ): Operation<File<'await'>>;
  open(
    path: string | Buffer | URL | number,
    flags: string | number = 'r',
    options: FileOptions = {},
  ): Operation<File<'packet'>> | Operation<File<'await'>> {
    this.lane.assertOpen();
    validate.options(options);
    validate.known(options, 'options', FILE_OPTIONS);
    const direct = validate.boolean(options.direct ?? false, 'options.direct');
    const mode = validate.u32(options.mode ?? 0o666, 'options.mode');
    const parsed = openFlags(flags, direct);
    const key = keyOf(this.lane, options.key);
    const traits = { append: (parsed & 4) !== 0, direct: (parsed & 64) !== 0 };
    if (typeof path === 'number') {
      const descriptor = openDescriptor(this.lane, path, key, { ...traits, path: undefined });
      return descriptor as Operation<File<'await'>>;
    }
    const bytes = pathBytes(path);
    const name = bytes.toString();
    mayOpen(name, parsed);
    return openPath(this.lane, {
      path: bytes,
      flags: parsed,
      mode,
      key,
      traits: { ...traits, path: name },
      signal: options.signal,
      timeout: options.timeout,
    }) as Operation<File<'await'>>;
  }

  /**
   * Listens for TCP connections. Rejects as `net.Server` emits (`EADDRINUSE`, …). With a key:
   * connections are accepted from now on, and arrive as `accepted` packets.
   */
  listen(options: ListenOptions & { readonly key: KeyOption }): Operation<TcpListener<'packet'>>;
  listen(options: ListenOptions & { readonly key?: undefined }): Operation<TcpListener<'await'>>;
  listen(
    options: ListenOptions,
  ): Operation<TcpListener<'packet'>> | Operation<TcpListener<'await'>> {
    this.lane.assertOpen();
    return listen(this.lane, options) as Operation<TcpListener<'await'>>;
  }

  /**
   * Connects to a TCP server: to the addresses of `host`, one after another. Rejects with the last
   * failure, as `net.Socket` emits it (`ECONNREFUSED`, …).
   */
  connect(options: ConnectOptions & { readonly key: KeyOption }): Operation<TcpSocket<'packet'>>;
  connect(options: ConnectOptions & { readonly key?: undefined }): Operation<TcpSocket<'await'>>;
  connect(options: ConnectOptions): Operation<TcpSocket<'packet'>> | Operation<TcpSocket<'await'>> {
    this.lane.assertOpen();
    return connect(this.lane, options) as Operation<TcpSocket<'await'>>;
  }

  /** Makes a timer. */
  timer(options: TimerHandleOptions & { readonly key: KeyOption }): Timer<'packet'>;
  timer(options?: TimerHandleOptions & { readonly key?: undefined }): Timer<'await'>;
  timer(options: TimerHandleOptions = {}): Timer<'packet'> | Timer<'await'> {
    this.lane.assertOpen();
    validate.options(options);
    validate.known(options, 'options', ['key']);
    const key = keyOf(this.lane, options.key);
    this.lane.flush();
    const id = this.lane.native.timer(key ?? -1);
    return new Timer<Style>(this.lane, id, key, true) as Timer<'await'>;
  }

  // ---- memory

  /**
   * Takes `size` bytes of the port's memory: aligned to 4,096 bytes, not cleared, the same in each thread;
   * the kernel reads and writes it in place. Give it back with `release`. `ERR_MEMORY_LIMIT` when
   * the memory limit is reached.
   */
  allocate(size: number): Buffer {
    this.lane.assertOpen();
    validate.integer(size, 'size', 1, 2 ** 31);
    return this.lane.memory.allocate(size);
  }

  /**
   * Gives memory back: what `allocate` returned, what `packet.keep()` returned, or any view of it.
   * Operations that were submitted before keep it until they end; for the program it is gone: its
   * views have no bytes any more, and to use one is `ERR_BUFFER_RELEASED`, as it is to release it
   * a second time. `ERR_INVALID_ARG_VALUE` for memory that is not the port's, or only lent (rule M2).
   */
  release(buffer: ArrayBufferView): void {
    this.lane.assertOpen();
    this.lane.memory.release(validate.view(buffer, 'buffer'));
  }

  // ---- posting

  /** Queues a message. `ERR_QUEUE_FULL` when `queueLimit` is reached (rule Q2). */
  post(key: number, value = 0): void {
    if (!this.tryPost(key, value)) throw queueFull();
  }

  /** Queues a message; false when the queue is full. */
  tryPost(key: number, value = 0): boolean {
    this.lane.assertOpen();
    return this.lane.post(validate.u32(key, 'key'), validate.number(value, 'value'));
  }

  /**
   * Resolves when the queue has room for messages: at once when there is some, else when a quarter
   * of it is free.
   */
  room(): Operation<void> {
    const { lane } = this;
    lane.assertOpen();
    const operation = new Operation<void>(lane, Kind.Room, {}, asNothing);
    operation.token = lane.add(operation);
    lane.hold(1);
    operation.aftermath = { after: () => lane.hold(-1) };
    lane.native.room(operation.token);
    lane.schedule();
    return operation;
  }

  // ---- taking packets

  /**
   * Waits, without the event loop, for packets: from 1 to `max` (at most 256) of them, or none when
   * `timeout` milliseconds pass first; 0 polls (rule D6). For workers that do nothing else. `for
   * (const packet of port.get())`: see `Packet` for how long one is valid. Packets that the loop
   * leaves behind go back to the queue. Throws `ERR_PORT_CLOSED` when the port is closed meanwhile,
   * `ERR_INVALID_STATE` in a thread that takes packets on its event loop (`consume`, `packets`).
   */
  get(max = 64, timeout = Infinity): IterableIterator<Packet> {
    this.lane.assertOpen();
    validate.integer(max, 'max', 1, MOST_PACKETS);
    if (!(validate.number(timeout, 'timeout') >= 0)) {
      throw validate.outOfRange('timeout', '>= 0', timeout);
    }
    this.lane.get(max, timeout);
    return this.lane.batch;
  }

  /**
   * Calls `handler` for each packet, on the event loop: the fastest way to take packets there. One
   * consumer for each thread: `ERR_INVALID_STATE` otherwise. What the handler throws is an uncaught
   * exception; packets go on.
   */
  consume(handler: (packet: Packet) => void): Consumer {
    this.lane.assertOpen();
    validate.callback(handler, 'handler');
    return new HandlerConsumer(this.lane, handler);
  }

  /**
   * The packets, on the event loop: `for await (const packet of port.packets())`. The key of a
   * packet is this thread's until the loop asks for the next one, or awaits something (rule D8).
   * The loop ends with `ERR_PORT_CLOSED` when the port is closed.
   */
  packets(): AsyncIterableIterator<Packet, undefined> {
    this.lane.assertOpen();
    return new PacketStream(this.lane);
  }

  /**
   * Runs `fn`, which blocks, while the port lets another thread run in this one's place (rule D4).
   */
  blocking<T>(fn: () => T): T {
    this.lane.assertOpen();
    validate.callback(fn, 'fn');
    const { native } = this.lane;
    native.blocking(true);
    try {
      return fn();
    } finally {
      if (!this.lane.closed) native.blocking(false);
    }
  }

  // ---- the port itself

  stats(): PortStats {
    this.lane.assertOpen();
    return this.lane.native.stats();
  }

  /** Lets an active `consume` or `packets` keep the process alive, which is the default. */
  ref(): this {
    this.lane.holdByConsumer(true);
    return this;
  }

  /** Lets the process end although packets are waited for. */
  unref(): this {
    this.lane.holdByConsumer(false);
    return this;
  }

  /**
   * Closes the port for all threads: cancels what is in flight, closes all handles, frees the
   * memory (rule T2). Threads that wait get `ERR_PORT_CLOSED` (rule D10); a handler of `consume` is
   * not called any more. The same promise each time.
   */
  close(): Promise<void> {
    if (this.lane.closed) return Promise.resolve();
    this.closingPromise ??= this.shutDown();
    return this.closingPromise;
  }

  /**
   * Leaves the port: this thread's operations are cancelled, its handles of await style closed;
   * the port goes on for the other threads, and ends with the last.
   */
  detach(): void {
    if (this.lane.closed) return;
    if (this.lane.closing) throw invalidState('The port is being closed');
    this.lane.memory.revokeAll();
    this.lane.down();
  }

  /** The same as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  [inspect.custom](_depth: number, options: object, show: typeof inspect): string {
    const { driver, concurrency, closed, lane } = this;
    const stats = closed ? undefined : lane.native.stats();
    const live = stats && {
      handles: stats.handles,
      queueDepth: stats.queueDepth,
      threads: stats.threads,
      running: stats.running,
    };
    const state = closed ? 'closed' : 'open';
    return `CompletionPort ${show({ driver, concurrency, state, ...live }, options)}`;
  }

  private async shutDown(): Promise<void> {
    const { lane } = this;
    lane.closing = true;
    lane.hold(1);
    // A handler could do nothing with a packet any more: whatever it submits is refused.
    lane.stopConsumer();
    try {
      await this.closeHandles();
      if (!lane.closed) lane.native.closePort();
    } finally {
      lane.down();
    }
  }

  /**
   * Connections may still be accepted while the first handles are being closed: again until none.
   */
  private async closeHandles(): Promise<void> {
    const { lane } = this;
    for (;;) {
      const closing: Operation<void>[] = [];
      for (const handle of lane.handles) {
        const operation = handle.closed ? handle.whenClosed() : undefined;
        if (operation !== undefined) closing.push(operation);
      }
      for (const id of lane.native.handles()) {
        const handle = lane.handles.get(id);
        closing.push(handle?.closed === false ? handle.closeForPort() : closeHandle(lane, id));
      }
      if (closing.length === 0) return;
      await Promise.allSettled(closing);
      if (lane.closed) return;
    }
  }
}

function create(options: PortOptions): NativeLane {
  validate.options(options);
  validate.known(options, 'options', PORT_OPTIONS);
  const { concurrency = binding.availableParallelism(), driver, buffers = {} } = options;
  validate.integer(concurrency, 'options.concurrency', 1, 1024);
  if (driver !== undefined) {
    validate.oneOf(driver, 'options.driver', ['io_uring', 'epoll', 'iocp'] as const);
  }
  validate.options(buffers, 'options.buffers');
  validate.known(buffers, 'options.buffers', ['size', 'count']);
  const size = validate.integer(buffers.size ?? 32768, 'options.buffers.size', 1024, 2 ** 24);
  const count = validate.integer(buffers.count ?? 1024, 'options.buffers.count', 1, 2 ** 20);
  if (size * (count + RESERVED_BUFFERS) > GREATEST_BUFFERS) {
    throw validate.outOfRange('options.buffers', 'less than 4 GiB in all', buffers);
  }
  const dispatch = validate.oneOf(options.dispatch ?? 'any', 'options.dispatch', ['any', 'affine']);
  const native: NativeOptions = {
    concurrency,
    driver: driver ?? '',
    queueLimit: validate.integer(options.queueLimit ?? 65536, 'options.queueLimit', 1, 2 ** 32 - 1),
    bufferSize: size,
    bufferCount: count,
    memoryLimit: validate.integer(
      options.memoryLimit ?? 2 ** 30,
      'options.memoryLimit',
      0,
      Number.MAX_SAFE_INTEGER,
    ),
    serializeKeys: validate.boolean(options.serializeKeys ?? true, 'options.serializeKeys'),
    affine: dispatch === 'affine',
    spin: validate.integer(options.spinMicroseconds ?? SPIN, 'options.spinMicroseconds', 0, 1000),
    checkMemory: checks('memory'),
  };
  return laneOf(() => binding.createPort(native), 'createPort');
}

/** Whether `COMPLETION_PORT_CHECK`, a list with commas, names it. */
function checks(what: string): boolean {
  return (process.env['COMPLETION_PORT_CHECK'] ?? '').split(',').includes(what);
}

/** Native code tells the errno and what failed; the rest of the error is completed here. */
function laneOf(make: () => NativeLane, syscall: string): NativeLane {
  try {
    return make();
  } catch (cause) {
    const { errno, message } = cause as NodeJS.ErrnoException;
    if (typeof errno !== 'number') throw cause;
    throw Object.assign(systemError(errno, message, {}), { syscall });
  }
}
