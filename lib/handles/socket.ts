/**
 * TCP connections.
 */
import type * as api from '../api';
import type { Data, ListenerAddress, SocketChunkOptions } from '../api';
import { Kind } from '../native/kinds';
import { NO_CHUNK, Slot, SocketOption, SubmissionFlag } from '../native/layout';
import { ECANCELED } from '../support/errno';
import {
  handleClosed,
  invalidState,
  outOfBuffers,
  systemError,
  type Subject,
} from '../support/errors';
import { File } from './file';
import { asNothing, asNumber, Handle, type Answer, type SendAnswer, type Style } from './handle';
import { HeldSends } from '../await/held-sends';
import { bytesIn, LARGEST_COPY, type Gift, type Lender } from '../thread/memory';
import {
  AWAIT_OPTIONS,
  Operation,
  OPERATION_OPTIONS,
  PairedOperation,
  watchSignal,
  type Aftermath,
  type Decode,
  type OperationOptions,
} from '../await/operation';
import { highWaterMark, OF_FILE, setHighWaterMark } from '../thread/outgoing';
import { checkPasses, lengthOf, parcelOf, takeReceived } from './passing';
import { keepAliveOptions, readOptions, SOCKET_OPTIONS, SocketSettings } from './socket-options';
import { Stream, toAsyncStreamable } from '../await/stream';
import { CopyBack } from '../await/copy-back';
import * as validate from '../support/validate';

/** Options of either style; lib/api.ts tells them apart. */
type ReceiveOptions = api.ReceiveOptions & api.KeyedReceiveOptions;
type SendOptions = api.SendOptions & api.KeyedSendOptions;
type SendFileOptions = api.SendFileOptions & api.KeyedSendFileOptions;

const RECEIVE_OPTIONS = ['into', 'multishot', ...OPERATION_OPTIONS];
const RECEIVE_HANDLE_OPTIONS = ['length', ...OPERATION_OPTIONS];
const SEND_OPTIONS = ['release', ...OPERATION_OPTIONS];
const SEND_FILE_OPTIONS = ['position', 'length', ...OPERATION_OPTIONS];

/** Of TCP: as in Node.js, ends of UNIX sockets have none. */
type Address = api.ListenerAddress & { readonly family: 'IPv4' | 'IPv6' };

const about: Subject = { net: true };
/** Filled in by native code, for whoever asks. */
const latest = new Float64Array(2);

/**
 * A TCP connection: `port.connect()`, or accepted by a listener. Operations run on io_uring's RECV
 * and SEND | on recv and sendmsg when the socket is ready under epoll | on WSARecv and WSASend.
 *
 * A loop and an await give Buffers that stay; `chunks({ lend: true })` and packets lend theirs.
 *
 * What its public members do stands in lib/api.ts.
 */
export class TcpSocket<S extends Style = Style> extends Handle<S> {
  /** Its addresses, when they have been asked for. */
  #ends: { local?: Address | undefined; remote?: Address | undefined } | undefined = undefined;

  /** Of messages; undefined: not known yet. */
  #keepsBorders: boolean | undefined = undefined;

  /** Bytes received and sent, when they were last asked for. */
  #known: Float64Array | undefined = undefined;

  /** Sends that wait; made when the first one made the socket full. */
  #held: HeldSends | undefined = undefined;
  #waiting: ReceivedChunks | undefined = undefined;
  /** Whether its close is a reset. */
  #resets = false;

  /** @internal The loop over what is received, while that waits for what it gave to be sent. */
  get waiting(): ReceivedChunks | undefined {
    return this.#waiting;
  }

  set waiting(loop: ReceivedChunks | undefined) {
    this.#waiting = loop;
  }

  get kind(): 'socket' {
    return 'socket';
  }

  get type(): 'stream' | 'seqpacket' {
    if (this.#keepsBorders === undefined && !this.closed && !this.thread.closed) {
      this.#keepsBorders = this.thread.native.handleInfo(this.id)?.messages;
    }
    return this.#keepsBorders === true ? 'seqpacket' : 'stream';
  }

  receive(options?: ReceiveOptions & { into?: undefined }): Answer<S, Buffer>;
  receive(into: ArrayBufferView, options?: OperationOptions): Answer<S, number>;
  receive(options: ReceiveOptions & { into: ArrayBufferView }): Answer<S, number>;
  receive(target?: ArrayBufferView | ReceiveOptions, more?: OperationOptions): unknown {
    this.assertOpen();
    if (target instanceof ArrayBuffer) validate.view(target, 'into');
    const isView = ArrayBuffer.isView(target);
    const options: ReceiveOptions | undefined = isView ? more : target;
    validate.knownOf(options, isView ? OPERATION_OPTIONS : RECEIVE_OPTIONS);
    const into = isView ? target : target?.into;
    if (!this.admits(options)) return this.refusedByAbort(Kind.Receive, options);
    if (into !== undefined && options?.multishot === true) {
      throw invalidState('multishot has buffers of its own, and takes no `into`');
    }
    if (into !== undefined) return this.receiveInto(validate.view(into, 'options.into'), options);
    const flags = this.multishotFlag(options);
    return this.request(Kind.Receive, takeBytes, options, 0, 0, NO_CHUNK, 0, 0, flags);
  }

  get bufferedAmount(): number {
    return this.thread.outgoing.bytes(this.id) + (this.#held?.bytes ?? 0);
  }

  get highWaterMark(): number {
    return highWaterMark(this.id);
  }

  set highWaterMark(bytes: number) {
    this.assertOpen();
    setHighWaterMark(this.id, validate.highWaterMark(bytes, 'highWaterMark'));
  }

  get idleTimeout(): number {
    return idleTimeoutOf(this);
  }

  set idleTimeout(milliseconds: number) {
    this.assertOpen();
    setIdleTimeout(this, milliseconds);
  }

  send(data: Data | readonly Data[], options?: SendOptions): SendAnswer<S, number> {
    this.assertOpen();
    validate.data(data, 'data');
    validate.knownOf(options, SEND_OPTIONS);
    if (!this.admits(options)) return this.told(true, this.refusedByAbort(Kind.Send, options));
    validate.flag(options?.release, 'options.release');
    if (this.holds()) return this.sendLater(data, options);
    const { memory } = this.thread;
    if (!this.stage(data)) return this.told(true, this.refuse(Kind.Send, outOfBuffers()));
    if (memory.stagedBytes === 0 && this.style === 'await') {
      return this.told(true, this.answerNow(Kind.Send, 0));
    }
    const feeder = this.feederOf(data);
    const below = this.counts(memory.stagedBytes, memory.stagedRecords);
    const flags = below ? 0 : SubmissionFlag.Full;
    const answer = this.requestStaged(Kind.Send, options, 0, undefined, flags, feeder);
    if (options?.release === true) memory.releaseAll(data);
    return this.told(below, answer);
  }

  sendFile(file: api.FileHandle | api.KeyedFile, options?: SendFileOptions): SendAnswer<S, number> {
    const { feeder } = this.thread.batch;
    return this.submitFile(file, options, feeder === this.id ? feeder : 0);
  }

  /** @internal `feeder`: whoever gave what it is sent for, and is to receive no more when it is much. */
  submitFile(
    file: api.FileHandle | api.KeyedFile,
    options: SendFileOptions | undefined,
    feeder: number,
  ): SendAnswer<S, number> {
    this.assertOpen();
    const source = sendable(file);
    validate.knownOf(options, SEND_FILE_OPTIONS);
    if (!this.admits(options)) return this.told(true, this.refusedByAbort(Kind.SendFile, options));
    const position = validate.position(options?.position, 'options.position') ?? 0;
    const most = Number.MAX_SAFE_INTEGER;
    const length = validate.integer(options?.length ?? most, 'options.length', 0, most);
    this.#held?.releaseAll(); // the file may be closed afterwards
    const below = this.counts(Math.min(length, OF_FILE), 1);
    const flags = below ? 0 : SubmissionFlag.Full;
    // In the place of memory: the two words of the file's id.
    const high = source / 2 ** 32;
    return this.told(
      below,
      this.request(
        Kind.SendFile,
        asNumber,
        options,
        position,
        length,
        NO_CHUNK,
        source,
        high,
        flags,
        undefined,
        this.style === 'packet' ? feeder : 0,
      ),
    );
  }

  sendHandle(
    this: TcpSocket<'await'>,
    handles: unknown,
    data: Data = '\0',
    options?: OperationOptions,
  ): Operation<number> {
    this.assertPasses();
    validate.data(data, 'data');
    validate.knownOf(options, OPERATION_OPTIONS);
    if (!this.admits(options)) return this.refusedByAbort(Kind.SendHandle, options);
    this.#held?.releaseAll(); // a place in the order of the sends
    if (!this.stage(data)) return this.refuse(Kind.SendHandle, outOfBuffers());
    const { memory } = this.thread;
    if (memory.stagedBytes === 0) {
      memory.resetStage();
      throw validate.invalidValue('data', 'must not be empty: it takes the handles along', data);
    }
    const { native } = this.thread;
    let parcel = -1;
    try {
      parcel = parcelOf(this.thread, handles);
      const below = this.counts(memory.stagedBytes, memory.stagedRecords);
      const flags = below ? 0 : SubmissionFlag.Full;
      const operation = this.requestStaged(Kind.SendHandle, options, parcel, undefined, flags);
      if (operation.token < 0) native.dropParcel(parcel);
      return this.told<number>(below, operation);
    } catch (error) {
      memory.unstage();
      if (parcel >= 0) native.dropParcel(parcel);
      throw error;
    }
  }

  receiveHandle(
    this: TcpSocket<'await'>,
    options?: api.ReceiveHandleOptions,
  ): Operation<api.ReceivedHandles> {
    this.assertPasses();
    validate.knownOf(options, RECEIVE_HANDLE_OPTIONS);
    const length = lengthOf(options);
    if (!this.admits(options)) return this.refusedByAbort(Kind.ReceiveHandle, options);
    return this.request(Kind.ReceiveHandle, takeReceived, options, 0, length);
  }

  end(data?: Data | readonly Data[], options?: OperationOptions): SendAnswer<S, void> {
    this.assertOpen();
    if (data !== undefined) validate.data(data, 'data');
    validate.knownOf(options, OPERATION_OPTIONS);
    if (!this.admits(options)) return this.told(true, this.refusedByAbort(Kind.Send, options));
    if (this.holds()) return this.endLater(data, options);
    const { memory } = this.thread;
    if (!this.stage(data ?? '')) return this.told(true, this.refuse(Kind.Send, outOfBuffers()));
    const below = this.counts(memory.stagedBytes, memory.stagedRecords + 1);
    if (memory.stagedBytes === 0) {
      return this.told(below, this.request(Kind.Shutdown, asNothing, options));
    }
    const flags = below ? 0 : SubmissionFlag.Full;
    return this.told(
      below,
      this.requestPair(Kind.Send, Kind.Shutdown, nothing, options, 0, undefined, flags),
    );
  }

  override close(callback?: unknown): Answer<S, void> {
    this.moved();
    return super.close(callback);
  }

  override handOff(target: api.CompletionPort | api.PortToken, key?: api.KeyOption): void {
    this.moved();
    super.handOff(target, key);
  }

  override link<T>(fn: () => T): T {
    if (this.#held?.any) throw invalidState('Sends of this socket wait for their turn: await them');
    return super.link(fn);
  }

  [Symbol.asyncIterator](this: TcpSocket<'await'>): api.AsyncLoop<Buffer> {
    return this.chunks();
  }

  [toAsyncStreamable](this: TcpSocket<'await'>): api.AsyncLoop<Buffer> {
    return this.chunks();
  }

  chunks(this: TcpSocket<'await'>, options?: SocketChunkOptions): api.AsyncLoop<Buffer> {
    this.assertOpen();
    if ((this.style as Style) === 'packet') {
      throw invalidState('A socket with a key answers in packets');
    }
    return new ReceivedChunks(this, options);
  }

  setNoDelay(noDelay = true): this {
    return this.setOption(SocketOption.NoDelay, validate.boolean(noDelay, 'noDelay') ? 1 : 0);
  }

  setKeepAlive(enable = true, initialDelay = 0, interval?: number, count?: number): this {
    validate.boolean(enable, 'enable');
    validate.keepAlive(initialDelay, 'initialDelay');
    if (!enable) return this.setOption(SocketOption.KeepAlive, 0);
    this.assertThere();
    const settings = new SocketSettings(keepAliveOptions({ initialDelay, interval, count }));
    settings.apply(this.thread.native, this.id);
    return this;
  }

  setOptions(options: api.SocketOptions): this {
    this.assertThere();
    validate.given(options);
    validate.known(options, 'options', SOCKET_OPTIONS);
    const settings = new SocketSettings(options);
    const { noDelay } = options;
    if (noDelay !== undefined) {
      settings.noDelay(validate.boolean(noDelay, 'options.noDelay'));
    }
    settings.change(this.thread.native, this.id);
    return this;
  }

  getOptions(): api.SocketOptions {
    this.assertThere();
    return readOptions(this.thread.native, this.id);
  }

  get bytesRead(): number {
    return this.moved()[0]!;
  }

  get bytesWritten(): number {
    return this.moved()[1]!;
  }

  address(): ListenerAddress | undefined {
    return this.localEnd();
  }

  get localAddress(): string | undefined {
    return this.localEnd()?.address;
  }

  get localPort(): number | undefined {
    return this.localEnd()?.port;
  }

  get localFamily(): 'IPv4' | 'IPv6' | undefined {
    return this.localEnd()?.family;
  }

  get remoteAddress(): string | undefined {
    return this.remoteEnd()?.address;
  }

  get remotePort(): number | undefined {
    return this.remoteEnd()?.port;
  }

  get remoteFamily(): 'IPv4' | 'IPv6' | undefined {
    return this.remoteEnd()?.family;
  }

  reset(): Answer<S, void> {
    // Again, it is the same close; after another one the peer would not see a reset.
    if (!this.#resets) this.setOption(SocketOption.Linger, 1);
    this.#resets = true;
    return this.close();
  }

  /** @internal Sends a received buffer of `feeder`, which is released when it is sent. */
  forward(
    chunk: number,
    start: number,
    bytes: number,
    feeder: number,
    options: OperationOptions | undefined,
  ): SendAnswer<S, number> {
    this.assertOpen();
    validate.knownOf(options, OPERATION_OPTIONS);
    // Native code sees to it that what feeds this one receives no more: it needs not wait here.
    this.#held?.releaseAll();
    const below = this.counts(bytes, 1);
    const flags = SubmissionFlag.Release | (below ? 0 : SubmissionFlag.Full);
    return this.told(
      below,
      this.request(
        Kind.Send,
        asNumber,
        options,
        0,
        0,
        chunk,
        start,
        bytes,
        flags,
        undefined,
        feeder,
      ),
    );
  }

  /** @internal */
  override subject(): Subject {
    return about;
  }

  protected override describe(): Record<string, unknown> {
    const show = (end: Address | undefined): string | undefined =>
      end &&
      (end.address.includes(':') ? `[${end.address}]:${end.port}` : `${end.address}:${end.port}`);
    const [bytesRead, bytesWritten] = this.moved();
    const ends = { local: show(this.localEnd()), remote: show(this.remoteEnd()) };
    return { ...super.describe(), ...ends, bytesRead, bytesWritten };
  }

  protected override forget(): void {
    this.#held?.cancelAll();
    this.waiting?.cancelled();
  }

  /** Another thread may have closed it. */
  private assertThere(): void {
    this.assertOpen();
    if (!isThere(this)) throw handleClosed();
  }

  private assertPasses(): void {
    this.assertOpen();
    if (this.style === 'packet') throw invalidState('Handles are sent and received by awaiting');
    checkPasses(this);
  }

  // ---- as much as is enough

  /** Prepares what is sent next; false where it has enough to send and the port's memory is used up. */
  private stage(data: Data | readonly Data[]): boolean {
    const { memory, outgoing } = this.thread;
    return memory.stage(data, false, outgoing.mayExceed(this.id));
  }

  /** Counts bytes that are submitted next, in `records`; whether there is less to send than enough. */
  private counts(bytes: number, records: number): boolean {
    const { thread } = this;
    // What makes room for them hands over what was counted before.
    if (thread.submissions.chaining) this.makeRoomInChain(records, undefined);
    else thread.submissions.ensure(records);
    return thread.outgoing.add(this.id, bytes);
  }

  /** The answer of a send; after one that makes it full others wait. */
  private told<T>(below: boolean, answer: Answer<S, T>): SendAnswer<S, T> {
    if (this.style === 'packet') return below as SendAnswer<S, T>;
    if (!below) {
      this.#held ??= new HeldSends(
        () => this.thread.outgoing.isBelow(this.id),
        () => highWaterMark(this.id),
      );
      this.#held.follow(answer as Operation<T>);
    }
    return answer as unknown as SendAnswer<S, T>;
  }

  /** Whether what is sent now has to wait. A chain does not: it was refused if it had to. */
  private holds(): boolean {
    return this.#held !== undefined && this.#held.full && !this.thread.submissions.chaining;
  }

  private sendLater(
    data: Data | readonly Data[],
    options: SendOptions | undefined,
  ): SendAnswer<S, number> {
    const { thread } = this;
    const held = this.#held;
    const copy = thread.memory.copyOf(data);
    const loop = this.loopOf(data);
    if (options?.release === true) thread.memory.releaseAll(data);
    const operation = new Operation<number>(thread, Kind.Send, about, asNumber);
    const begin = (timeout: number): void => {
      if (!this.stage(copy)) return operation.fail(outOfBuffers());
      this.counts(copy.length, 1);
      operation.token = thread.add(operation);
      const { token } = operation;
      thread.submissions.submitStaged(Kind.Send, 0, this.id, token, timeout, 0, 0, loop?.id);
    };
    if (watchSignal(operation, options ?? {})) {
      held!.add(operation, copy.length, validate.timeout(options?.timeout), begin, loop);
    }
    return operation as unknown as SendAnswer<S, number>;
  }

  private endLater(
    data: Data | readonly Data[] | undefined,
    options: OperationOptions | undefined,
  ): SendAnswer<S, void> {
    const { thread } = this;
    const held = this.#held;
    const copy = thread.memory.copyOf(data ?? '');
    const pair = new PairedOperation<void>(thread, Kind.Send, about, nothing);
    if (watchSignal(pair, options ?? {})) {
      held!.add(pair, copy.length, validate.timeout(options?.timeout), (timeout) => {
        if (!this.stage(copy)) return pair.fail(outOfBuffers());
        this.counts(copy.length, 2);
        this.submitPair(pair, Kind.Send, Kind.Shutdown, timeout, 0, 0);
      });
    }
    return pair as unknown as SendAnswer<S, void>;
  }

  /** Where what is staged was received from, if that is at hand: 0, not known. */
  private feederOf(data: Data | readonly Data[]): number {
    if (this.style === 'await') return this.loopOf(data)?.id ?? 0;
    const { feeder } = this.thread.batch;
    return feeder === this.id ? feeder : 0;
  }

  /** The loop that gave `data`, or a part of it, and has not been asked for more. */
  private loopOf(data: Data | readonly Data[]): Lender | undefined {
    const { memory } = this.thread;
    if (ArrayBuffer.isView(data)) return memory.lenderOf(data);
    if (!Array.isArray(data)) return undefined;
    for (const part of data as readonly Data[]) {
      const loop = ArrayBuffer.isView(part) ? memory.lenderOf(part) : undefined;
      if (loop !== undefined) return loop;
    }
    return undefined;
  }

  private receiveInto(
    into: ArrayBufferView,
    options: OperationOptions | undefined,
  ): Answer<S, number> {
    const { memory } = this.thread;
    memory.checkTarget(into, 'into');
    const here = memory.locate(into);
    const bytes = bytesIn(into);
    if (bytes === 0) throw validate.invalidValue('into', 'must not be empty', into);
    if (here) return this.receiveAt(bytes, options, undefined);
    if (this.style === 'packet') {
      throw invalidState('A socket with a key receives into memory of port.allocate() only');
    }
    const copied = Math.min(bytes, LARGEST_COPY);
    if (!memory.take(copied)) return this.refuse(Kind.Receive, outOfBuffers());
    return this.receiveAt(copied, options, new CopyBack(this.thread, [into]));
  }

  private receiveAt(
    bytes: number,
    options: OperationOptions | undefined,
    aftermath: Aftermath | undefined,
  ): Answer<S, number> {
    const { chunk, start } = this.thread.memory;
    return this.request(Kind.Receive, asNumber, options, 0, 0, chunk, start, bytes, 0, aftermath);
  }

  private multishotFlag(options: ReceiveOptions | undefined): number {
    if (!validate.flag(options?.multishot, 'options.multishot')) return 0;
    if (this.style === 'packet') return SubmissionFlag.Multishot;
    throw invalidState('multishot is for sockets with a key; use for await');
  }

  private setOption(option: SocketOption, value: number): this {
    this.assertThere();
    const result = this.thread.native.setOption(this.id, option, value);
    if (result < 0) throw systemError(result, 'setsockopt', about);
    return this;
  }

  /** Bytes that it has received and sent: where it is gone, what was known last. */
  private moved(): Float64Array {
    const { thread } = this;
    this.#known ??= new Float64Array(2);
    if (this.closed || thread.closed || !thread.native.bytesMoved(this.id, latest))
      return this.#known;
    this.#known.set(latest);
    return this.#known;
  }

  private localEnd(): Address | undefined {
    if (!isThere(this)) return undefined;
    this.#ends ??= {};
    return (this.#ends.local ??= this.ask(false));
  }

  private remoteEnd(): Address | undefined {
    if (!isThere(this)) return undefined;
    this.#ends ??= {};
    return (this.#ends.remote ??= this.ask(true));
  }

  private ask(peer: boolean): Address | undefined {
    const address = this.thread.native.address(this.id, peer);
    const known = typeof address !== 'number' && address.family !== 'unix';
    return known ? (address as Address) : undefined;
  }
}

/** Whether a connection or a listener is open, as far as any thread knows. */
export function isThere(handle: Handle<Style>): boolean {
  return (
    !handle.closed && !handle.thread.closed && handle.thread.native.idleTimeout(handle.id) >= 0
  );
}

/** Milliseconds without a byte after which a connection ends, or those of a listener; 0: none. */
export function idleTimeoutOf(handle: Handle<Style>): number {
  handle.assertOpen();
  const milliseconds = handle.thread.native.idleTimeout(handle.id);
  if (milliseconds < 0) throw handleClosed();
  return milliseconds;
}

export function setIdleTimeout(handle: Handle<Style>, milliseconds: number): void {
  const timeout = validate.timeout(milliseconds, 'idleTimeout');
  const result = handle.thread.native.idleTimeout(handle.id, timeout);
  if (result < 0) throw systemError(result, 'idleTimeout', handle.subject());
}

/** The id of a file that can be sent from. */
function sendable(file: unknown): number {
  if (!(file instanceof File))
    throw validate.invalidType('file', 'a file that port.open has opened', file);
  if (file.closed) throw handleClosed();
  const { fileKind, direct } = file.traits;
  if (fileKind !== 'regular') throw validate.invalidValue('file', 'must be a regular file', file);
  if (direct) throw validate.invalidValue('file', 'must not be open with direct', file);
  return file.id;
}

const nothing = (): undefined => undefined;

/** A Buffer that stays; the port's goes back at once. */
const takeBytes: Decode<Buffer> = (result, at, operation: Operation<unknown>): Buffer => {
  const { words, memory } = operation.thread;
  const chunk = words[at + Slot.CHUNK / 4]!;
  if (chunk === NO_CHUNK) return Buffer.alloc(0);
  const start = words[at + Slot.START / 4]!;
  const bytes = memory.copyOut(chunk, start, result);
  memory.give(chunk, start);
  return bytes;
};

const CHUNK_OPTIONS = ['lend', 'closeOnReturn', ...AWAIT_OPTIONS];

class ReceivedChunks extends Stream<Buffer> implements Lender {
  /** The socket's id: whose bytes the loop has. */
  readonly id: number;
  private readonly socket: TcpSocket<'await'>;
  private readonly lends: boolean;
  private readonly timeout: number;
  private readonly closesOnReturn: boolean;
  private token = -1;
  /** The buffer that is here, given out or not. */
  private chunk = NO_CHUNK;
  private start = 0;
  private bytes = 0;
  private lent = false;
  /** Of what was given out last, if not lent. */
  private gift: Gift | undefined = undefined;
  /** Sends of what it gave that wait for their turn. */
  private unsent = 0;

  constructor(socket: TcpSocket<'await'>, options: SocketChunkOptions = {}) {
    validate.options(options);
    validate.known(options, 'options', CHUNK_OPTIONS);
    super(socket, Kind.Receive, options);
    this.socket = socket;
    this.id = socket.id;
    this.lends = validate.boolean(options.lend ?? false, 'options.lend');
    const closes = options.closeOnReturn ?? true;
    this.closesOnReturn = validate.boolean(closes, 'options.closeOnReturn');
    this.timeout = validate.timeout(options.timeout);
  }

  /** A loop that is left early closes the socket, as those over streams of Node.js do. */
  override async return(): Promise<IteratorResult<Buffer, undefined>> {
    const { over } = this;
    const result = await super.return();
    if (!over && this.closesOnReturn && !this.socket.closed && !this.thread.closed) {
      await this.socket.close();
    }
    return result;
  }

  override answered(error: number, result: number, at: number): void {
    this.token = -1;
    this.inFlight--;
    const { words } = this.thread;
    if (error !== 0) this.ended(error);
    else if (result === 0) this.ending = true;
    else {
      this.chunk = words[at + Slot.CHUNK / 4]!;
      this.start = words[at + Slot.START / 4]!;
      this.bytes = result;
    }
    this.wake();
  }

  /** @internal */
  holdBack(): void {
    this.unsent++;
  }

  /** @internal */
  letReceive(): void {
    if (--this.unsent > 0 || this.socket.waiting !== this) return;
    this.socket.waiting = undefined;
    try {
      this.proceed();
    } catch (error) {
      this.fail(error as Error);
    }
    this.wake();
  }

  /** @internal While nothing is in flight that could be cancelled. */
  cancelled(): void {
    this.socket.waiting = undefined;
    this.ended(ECANCELED);
    this.wake();
  }

  protected override proceed(): void {
    this.forgetLatest();
    if (this.ending || (this.chunk !== NO_CHUNK && !this.lent)) return;
    if (this.socket.closed) {
      this.ending = true;
      return;
    }
    this.socket.assertOpen();
    if (this.unsent > 0) {
      if (this.lent) this.giveBack();
      this.socket.waiting = this;
      return;
    }
    const token = this.thread.add(this);
    // What was lent goes back with the next receive rather than with a call of its own.
    const { chunk, start, timeout } = this;
    if (this.lent) this.thread.memory.forget(chunk, start);
    const flags = chunk === NO_CHUNK ? 0 : SubmissionFlag.Release;
    this.thread.submissions.receive(this.socket.id, token, flags, timeout, chunk, start);
    this.token = token;
    this.inFlight++;
    this.chunk = NO_CHUNK;
    this.lent = false;
  }

  protected override take(): Buffer | undefined {
    if (this.chunk === NO_CHUNK || this.lent) return undefined;
    const { memory } = this.thread;
    if (this.lends) {
      this.lent = true;
      return memory.lend(this.chunk, this.start, this.bytes, this);
    }
    const [own, gift] = memory.copyOutFrom(this, this.chunk, this.start, this.bytes);
    this.gift = gift;
    this.giveBack();
    return own;
  }

  protected override cancel(): void {
    if (this.token >= 0) this.thread.cancel(this.token);
  }

  protected override finish(): void {
    if (this.chunk !== NO_CHUNK) this.giveBack();
    this.forgetLatest();
  }

  private forgetLatest(): void {
    if (this.gift !== undefined) this.gift.lender = undefined;
    this.gift = undefined;
  }

  private giveBack(): void {
    if (this.lent) this.thread.memory.takeBack(this.chunk, this.start);
    else this.thread.memory.give(this.chunk, this.start);
    this.chunk = NO_CHUNK;
    this.lent = false;
  }
}
