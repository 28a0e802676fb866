/**
 * The completion port, as one thread sees it.
 */
import { inspect } from 'node:util';
import {
  binding,
  type NativeThread,
  type NativePortOptions as NativePortOptions,
} from './native/binding';
import { Kind } from './native/kinds';
import type * as api from './api';
import type {
  AwaitOptions,
  ByKey,
  ConnectOptions,
  Consumer,
  ConsumeOptions,
  DriverName,
  FileHandle,
  FileOptions,
  KeyedFile,
  KeyedListener,
  KeyedSocket,
  KeyedTimer,
  KeyOption,
  ListenerHandle,
  ListenOptions,
  PortOptions,
  PortStats,
  PortToken,
  SocketHandle,
  TimerHandle,
  TimerOptions,
} from './api';
import { Batch } from './packets/batch';
import { checks } from './support/checks';
import { connect } from './handles/connecting';
import { HandlerConsumer, PacketStream } from './packets/consumers';
import { invalidState, promiseReturned, queueFull, systemError } from './support/errors';
import { openFlags } from './handles/open-flags';
import {
  closeHandle,
  contextOf,
  keyOf,
  portIdOf,
  tokenOf,
  type Handle,
  type Style,
} from './handles/handle';
import { BUCKETS, Histogram } from './support/histogram';
import { PortThread } from './thread/port-thread';
import { Lease } from './thread/lease';
import { listen, openDescriptor, openPath, pathBytes } from './handles/opening';
import { AWAIT_OPTIONS, NoticeOperation, type Operation } from './await/operation';
import { mayOpen } from './support/permission';
import { Timer } from './handles/timer';
import { traces } from './await/tracing';
import * as validate from './support/validate';

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
const FILE_OPTIONS = ['mode', 'key', 'asyncResource', 'direct', ...AWAIT_OPTIONS];

const MOST_PACKETS = 256;
/** Somewhat more than a wake-up takes: two threads that wait for each other find to one another. */
const SPIN = binding.availableParallelism() > 1 ? 50 : 0;
const GREATEST_BUFFERS = 2 ** 32 - 1;
/** Receive buffers a port has beyond `count`, for its threads. */
const RESERVED_BUFFERS = 1024;

/** The ports this thread is attached to. */
const attached = new Map<number, CompletionPort>();

/** The port of lib/api.ts. */
export class CompletionPort implements api.CompletionPort {
  readonly driver: DriverName;
  readonly driverReason: string;
  readonly concurrency: number;
  /** Its own, so that a port which is posted arrives as something that can be attached to. */
  declare readonly token: PortToken;

  readonly #thread: PortThread;
  #batch!: Batch;
  readonly #ownToken: PortToken;
  /** Whether no other thread can attach: this one made the port, and has told nobody its name. */
  #alone: boolean;
  #closingPromise: Promise<void> | undefined = undefined;

  /** `existing`: the calling thread's part of a port that is there. */
  constructor(options: PortOptions = {}, existing?: NativeThread, known?: number) {
    const native = existing ?? create(options);
    this.concurrency = known ?? options.concurrency ?? binding.availableParallelism();
    this.driver = native.driver as DriverName;
    this.driverReason = native.driverReason;
    this.#alone = existing === undefined;
    this.#ownToken = Object.freeze({
      completionPort: native.portId,
      instance: binding.instance,
      concurrency: this.concurrency,
    });
    const affine = options.dispatch === 'affine';
    this.#thread = new PortThread(
      this,
      native,
      affine,
      (thread) => (this.#batch = new Batch(thread)),
      () => attached.delete(native.portId),
    );
    Object.defineProperty(this, 'token', { enumerable: true, get: () => this.toldToken() });
    attached.set(native.portId, this);
  }

  static attach(port: PortToken | api.CompletionPort): CompletionPort {
    const id = portIdOf(port, 'port');
    const { concurrency = binding.availableParallelism() } = tokenOf(port);
    const known = attached.get(id);
    if (known !== undefined) return known;
    return attachedTo(id, concurrency);
  }

  /** @internal */
  get thread(): PortThread {
    return this.#thread;
  }

  get closed(): boolean {
    return this.thread.closed || this.thread.closing;
  }

  // ---- handles

  open<K extends KeyOption | undefined = undefined>(
    path: string | Buffer | URL | number,
    flags: string | number = 'r',
    options: FileOptions<K> = {},
    ...more: unknown[]
  ): Operation<ByKey<K, FileHandle, KeyedFile>> {
    validate.noCallback([flags, options, ...more], 'port.open(…)');
    if (!traces.open.wanted) return this.openNow(path, flags, options);
    const context = { port: this, path, flags, options };
    return traces.open.follow(context, () => this.openNow(path, flags, options));
  }

  private openNow<K extends KeyOption | undefined>(
    path: string | Buffer | URL | number,
    flags: string | number,
    options: FileOptions<K>,
  ): Operation<ByKey<K, FileHandle, KeyedFile>> {
    this.thread.assertOpen();
    validate.options(options);
    validate.known(options, 'options', FILE_OPTIONS);
    const signal = validate.signal(options.signal);
    const timeout = validate.timeout(options.timeout);
    const direct = validate.boolean(options.direct ?? false, 'options.direct');
    const mode = validate.u32(options.mode ?? 0o666, 'options.mode');
    const parsed = openFlags(flags, direct);
    const key = keyOf(this.thread, options.key);
    const context = contextOf(this.thread, key, options.asyncResource);
    const traits = { append: (parsed & 4) !== 0, direct: (parsed & 64) !== 0 };
    if (typeof path === 'number') {
      const about = { ...traits, path: undefined };
      const descriptor = openDescriptor(this.thread, path, key, about, context, signal);
      return byKey<K, FileHandle, KeyedFile>(descriptor);
    }
    const bytes = pathBytes(path);
    const name = bytes.toString();
    mayOpen(name, parsed);
    const opening = openPath(this.thread, {
      path: bytes,
      flags: parsed,
      mode,
      key,
      context,
      traits: { ...traits, path: name },
      signal,
      timeout,
    });
    return byKey<K, FileHandle, KeyedFile>(opening);
  }

  listen<K extends KeyOption | undefined = undefined>(
    options: ListenOptions<K>,
    ...more: unknown[]
  ): Operation<ByKey<K, ListenerHandle, KeyedListener>> {
    const begin = (): Operation<ByKey<K, ListenerHandle, KeyedListener>> => {
      this.thread.assertOpen();
      validate.noCallback(more, 'port.listen(…)');
      return byKey<K, ListenerHandle, KeyedListener>(listen(this.thread, options));
    };
    if (!traces.listen.wanted) return begin();
    return traces.listen.follow({ port: this, options }, begin);
  }

  connect<K extends KeyOption | undefined = undefined>(
    options: ConnectOptions<K>,
    ...more: unknown[]
  ): Operation<ByKey<K, SocketHandle, KeyedSocket>> {
    const begin = (): Operation<ByKey<K, SocketHandle, KeyedSocket>> => {
      this.thread.assertOpen();
      validate.noCallback(more, 'port.connect(…)');
      return byKey<K, SocketHandle, KeyedSocket>(connect(this.thread, options));
    };
    if (!traces.connect.wanted) return begin();
    return traces.connect.follow({ port: this, options }, begin);
  }

  timer<K extends KeyOption | undefined = undefined>(
    options: TimerOptions<K> = {},
  ): ByKey<K, TimerHandle, KeyedTimer> {
    this.thread.assertOpen();
    validate.options(options);
    validate.known(options, 'options', ['key', 'asyncResource']);
    const key = keyOf(this.thread, options.key);
    const context = contextOf(this.thread, key, options.asyncResource);
    this.thread.flush();
    const id = this.thread.native.timer(key ?? -1);
    const timer = new Timer<Style>(this.thread, id, key, true);
    timer.asyncResource = context;
    return timer as unknown as ByKey<K, TimerHandle, KeyedTimer>;
  }

  // ---- memory

  allocate(size: number): Buffer {
    this.thread.assertOpen();
    validate.integer(size, 'size', 1, 2 ** 31);
    return this.thread.memory.allocate(size);
  }

  release(buffer: ArrayBufferView): void {
    this.thread.assertOpen();
    this.thread.memory.release(validate.view(buffer, 'buffer'));
  }

  lease(memory: number | Buffer): api.Lease {
    const bytes = typeof memory === 'number' ? this.allocate(memory) : memory;
    this.thread.assertOpen();
    this.thread.memory.ownBlock(validate.view(bytes, 'memory'));
    return new Lease(this.thread.memory, bytes);
  }

  // ---- posting

  // Not `...given`, as where less is posted: a rest parameter costs a tenth of a post.
  post(key: number, message: api.Message = validate.leftOut(arguments.length < 2)): void {
    if (!this.tryPost(key, message)) throw queueFull();
  }

  tryPost(key: number, message: api.Message = validate.leftOut(arguments.length < 2)): boolean {
    const { thread } = this;
    thread.assertOpen();
    validate.u32(key, 'key');
    const posted =
      typeof message === 'number' ? thread.post(key, message) : thread.postMessage(key, message);
    // Another thread may have closed the port, which this one has not been told of yet.
    if (!posted) thread.assertPostable();
    return posted;
  }

  publish(keys: Uint32Array | readonly number[], message: api.Message): void {
    if (!this.tryPublish(keys, message)) throw queueFull();
  }

  tryPublish(keys: Uint32Array | readonly number[], message: api.Message): boolean {
    const { thread } = this;
    thread.assertOpen();
    const list = validate.keys(keys, 'keys', thread.native.queueLimit);
    const content = thread.contentOf(message);
    if (list.length === 0) return true;
    const published = thread.publish(list, thread.native.portId, content);
    if (!published) thread.assertPostable();
    return published;
  }

  room(options: AwaitOptions = {}): Operation<void> {
    const { thread } = this;
    thread.assertOpen();
    validate.options(options);
    validate.known(options, 'options', AWAIT_OPTIONS);
    const operation = new NoticeOperation(thread, Kind.Room, options);
    if (!operation.pending) return operation;
    operation.token = thread.add(operation);
    thread.native.room(operation.token);
    thread.waitsForRoom();
    return operation;
  }

  // ---- taking packets

  get(max = 64, timeout = Infinity): api.PacketIterator {
    this.thread.assertOpen();
    validate.integer(max, 'max', 1, MOST_PACKETS);
    if (!(validate.number(timeout, 'timeout') >= 0)) {
      throw validate.outOfRange('timeout', '>= 0', timeout);
    }
    this.thread.get(max, timeout, this.#alone);
    return this.#batch as Iterator<unknown> as api.PacketIterator;
  }

  consume(handler: (packet: api.Packet) => void, options: ConsumeOptions = {}): Consumer {
    this.thread.assertOpen();
    validate.callback(handler, 'handler');
    validate.noGenerator(handler, 'handler');
    return new HandlerConsumer(this.#batch, handler, options);
  }

  packets(options?: AwaitOptions): api.AsyncLoop<api.Packet> {
    this.thread.assertOpen();
    return new PacketStream(this.#batch, options);
  }

  blocking<T>(fn: () => T): T {
    this.thread.assertOpen();
    validate.synchronous(fn, 'fn', 'it blocks nobody while it awaits');
    const { native } = this.thread;
    native.blocking(true);
    let answer: T;
    try {
      answer = fn();
    } finally {
      if (!this.thread.closed) native.blocking(false);
    }
    if (validate.isThenable(answer)) {
      throw promiseReturned(
        'The function of blocking() returned a promise, and blocked nobody: await it as it is, ' +
          'without blocking()',
      );
    }
    return answer;
  }

  // ---- the port itself

  stats(): PortStats {
    this.thread.assertOpen();
    const { native } = this.thread;
    const waits = new Float64Array(BUCKETS + 1);
    native.waits(waits);
    return { ...native.stats(), queueWaitMicroseconds: new Histogram(waits) };
  }

  ref(): this {
    this.thread.holdByConsumer(true);
    return this;
  }

  unref(): this {
    this.thread.holdByConsumer(false);
    return this;
  }

  hasRef(): boolean {
    return !this.thread.closed && this.thread.heldByConsumer;
  }

  close(...more: unknown[]): Promise<void> {
    validate.noCallback(more, 'port.close()');
    this.#closingPromise ??= this.thread.closed ? Promise.resolve() : this.shutDown();
    return this.#closingPromise;
  }

  detach(): void {
    if (this.thread.closed) return;
    if (this.thread.closing) throw invalidState('The port is being closed');
    this.thread.down(true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  [inspect.custom](_depth: number, options: object, show: typeof inspect): string {
    return `CompletionPort ${show(this.toJSON(), options)}`;
  }

  toJSON(): object {
    const { driver, concurrency, closed, thread } = this;
    const stats = closed ? undefined : thread.native.stats();
    const live = stats && {
      handles: stats.handles,
      queueDepth: stats.queueDepth,
      threads: stats.threads,
      running: stats.running,
    };
    const state = closed ? 'closed' : 'open';
    return { driver, concurrency, state, ...live };
  }

  /** Whoever is told it may attach. */
  private toldToken(): PortToken {
    this.#alone = false;
    return this.#ownToken;
  }

  private async shutDown(): Promise<void> {
    const { thread } = this;
    thread.closing = true;
    thread.hold(1);
    // A handler could do nothing with a packet any more: whatever it submits is refused.
    thread.stopConsumer(true);
    try {
      thread.native.announceClose();
      await this.closeHandles();
      if (!thread.closed) thread.native.closePort();
    } finally {
      thread.down(true);
    }
  }

  /**
   * Connections may still be accepted while the first handles are being closed: again until none.
   */
  private async closeHandles(): Promise<void> {
    const { thread } = this;
    for (;;) {
      const closing: Operation<void>[] = [];
      for (const handle of thread.handles as Iterable<Handle<Style>>) {
        const operation = handle.closed ? handle.whenClosed() : undefined;
        if (operation !== undefined) closing.push(operation);
      }
      for (const id of thread.native.handles()) {
        const handle = thread.handles.get(id) as Handle<Style> | undefined;
        closing.push(handle?.closed === false ? handle.closeForPort() : closeHandle(thread, id));
      }
      if (closing.length === 0) return;
      await Promise.allSettled(closing);
      if (thread.closed) return;
    }
  }
}

/** This thread's part of a port. (A class that names itself is renamed by the bundler.) */
function attachedTo(id: number, concurrency: number): CompletionPort {
  const native = laneOf(() => binding.attachPort(id), 'attach');
  return new CompletionPort(undefined, native, concurrency);
}

/** `K` says which style was asked for; the key that was given, which the operation makes. */
function byKey<K extends KeyOption | undefined, Awaited, Keyed>(
  operation: Operation<Awaited> | Operation<Keyed> | Operation<unknown>,
): Operation<ByKey<K, Awaited, Keyed>> {
  return operation as Operation<ByKey<K, Awaited, Keyed>>;
}

function create(options: PortOptions): NativeThread {
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
  const native: NativePortOptions = {
    concurrency,
    driver: driver ?? '',
    queueLimit: validate.bound(options.queueLimit ?? 65536, 'options.queueLimit', 1, 2 ** 32 - 1),
    bufferSize: size,
    bufferCount: count,
    memoryLimit: validate.bound(
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

/** Native code tells the errno and what failed; the rest of the error is completed here. */
function laneOf(make: () => NativeThread, syscall: string): NativeThread {
  try {
    return make();
  } catch (cause) {
    const { errno, message } = cause as NodeJS.ErrnoException;
    if (typeof errno !== 'number') throw cause;
    throw Object.assign(systemError(errno, message, {}), { syscall });
  }
}
