/**
 * What files, listeners, sockets and timers have in common.
 */
import { AsyncResource } from 'node:async_hooks';
import { inspect } from 'node:util';
import type { CompletionPort, KeyOption, PortToken } from '../api';
import { binding } from '../native/binding';
import { Kind } from '../native/kinds';
import { LibraryError, NO_CHUNK, SubmissionFlag } from '../native/layout';
import {
  abortError,
  handleClosed,
  invalidState,
  portForeign,
  systemError,
  type Subject,
} from '../support/errors';
import { ECANCELED } from '../support/errno';
import type { Style, ThreadHandle } from '../thread/handle-table';
import { claimLater } from '../thread/claims';
import type { PortThread } from '../thread/port-thread';
import {
  ENOUGH,
  Operation,
  operationOf,
  OPERATION_OPTIONS,
  PairedOperation,
  type Aftermath,
  type Decode,
  watchSignal,
  type OperationOptions,
} from '../await/operation';
import { points, traces } from '../await/tracing';
import { endWith, outlive, type Ended } from '../support/lifetime';
import { watchQueue } from '../support/warnings';
import * as validate from '../support/validate';

/**
 * How a handle answers: `'await'`, opened without a key: its methods return operations, which
 * belong to the thread that called; `'packet'`, opened with a key: its methods return nothing, and
 * the results arrive as packets, at whichever thread of the port takes them.
 */
export type { Style };

/** What a method of a handle returns. */
export type Answer<S extends Style, T> = S extends 'packet' ? void : Operation<T>;

/**
 * What a method that sends returns: in packet style, whether there is less to send than
 * `highWaterMark`; after false, a `drain` packet comes when most of it is out.
 */
export type SendAnswer<S extends Style, T> = S extends 'packet' ? boolean : Operation<T>;

const noOptions: OperationOptions = {};

/** Results that are the packet's own number. */
export const asNumber: Decode<number> = (result) => result;
export const asNothing: Decode<void> = () => undefined;
/** The result is one more, since 0 is a descriptor, too. */
const takeDescriptor: Decode<number> = (result, at, { thread }) => {
  claimLater(thread, thread.native.unclaimed(at));
  return result - 1;
};

const enum Life {
  Open,
  Closing,
  /** Closed, handed to another port, or the port is gone. */
  Gone,
}

/**
 * An open file, listener, socket or timer.
 * What its public members do stands in lib/api.ts.
 */
export abstract class Handle<S extends Style>
  implements AsyncDisposable, Aftermath, Ended, ThreadHandle
{
  abstract get kind(): 'file' | 'listener' | 'socket' | 'timer';
  readonly id: number;

  /** The context it was opened in; undefined where that was not to be kept. */
  asyncResource: AsyncResource | undefined = undefined;
  readonly #thread: PortThread;
  #life = Life.Open;
  #holding = false;
  #closing: Operation<void> | undefined = undefined;
  #signal: AbortSignal | undefined = undefined;
  /** The key as a signed number: V8 keeps those in the field itself, and others in an object. */
  readonly #signedKey: number | undefined;

  /** @internal `key` undefined: await style. `holds`: keeps the process alive. */
  constructor(thread: PortThread, id: number, key: number | undefined, holds: boolean) {
    this.#thread = thread;
    this.id = id;
    this.#signedKey = key === undefined ? undefined : key | 0;
    thread.handles.add(this);
    if (holds) this.ref();
  }

  /** @internal */
  get thread(): PortThread {
    return this.#thread;
  }

  get style(): S {
    return (this.#signedKey === undefined ? 'await' : 'packet') as S;
  }

  get key(): S extends 'packet' ? number : undefined {
    const key = this.#signedKey === undefined ? undefined : this.#signedKey >>> 0;
    return key as S extends 'packet' ? number : undefined;
  }

  get port(): CompletionPort {
    return this.thread.port;
  }

  get closed(): boolean {
    return this.#life !== Life.Open;
  }

  get fd(): number {
    if (this.closed || this.thread.closed || process.platform === 'win32') return -1;
    return this.thread.native.handleInfo(this.id)?.descriptor ?? -1;
  }

  close(callback?: unknown): Answer<S, void> {
    if (callback !== undefined) validate.noCallback([callback], `${this.kind}.close()`);
    if (this.#life !== Life.Open || this.thread.closed) return answer<S, void>(this.whenClosed());
    this.thread.submissions.assertUnchained();
    if (!traces.close.wanted) return this.closeNow();
    const context = { handle: this };
    if (this.style === 'packet') return traces.close.sync(context, () => this.closeNow());
    const close = (): Operation<void> => this.closeNow() as Operation<void>;
    return answer<S, void>(traces.close.follow(context, close));
  }

  private closeNow(): Answer<S, void> {
    this.#life = Life.Closing;
    this.forget();
    if (this.style === 'packet') {
      this.thread.submissions.close(this.id, this.#signedKey!, SubmissionFlag.Keyed);
      return answer<S, void>(undefined);
    }
    const operation = operationOf<void>(this.thread, Kind.Close, this.subject(), asNothing, this);
    operation.aftermath = this;
    operation.token = this.thread.add(operation);
    this.thread.submissions.close(this.id, operation.token);
    this.#closing = operation;
    return answer<S, void>(operation);
  }

  /**
   * Its own, and a function: so a handle can't be posted to another thread, which would get an object
   * with an id and nothing that it can do.
   */
  readonly cancel = cancel;

  /** @internal */
  cancelAll(): void {
    this.assertOpen();
    this.thread.submissions.assertUnchained();
    this.forget();
    this.thread.submissions.cancelHandle(this.id);
  }

  link<T>(fn: () => T): T {
    validate.synchronous(fn, 'fn', 'what it submits after an await would not be linked');
    this.assertOpen();
    return this.thread.submissions.link(this, fn);
  }

  ref(): this {
    if (this.#life === Life.Gone || this.#holding) return this;
    this.#holding = true;
    this.thread.hold(1);
    if (this.style === 'packet') this.thread.watch(this);
    return this;
  }

  unref(): this {
    if (!this.#holding) return this;
    this.#holding = false;
    this.thread.hold(-1);
    // What a listener accepts has to be taken all the same: see KeepAlive.
    if (this.kind !== 'listener') this.thread.unwatch(this);
    return this;
  }

  hasRef(): boolean {
    return this.#holding;
  }

  handOff(target: CompletionPort | PortToken, key?: KeyOption): void {
    if (!traces.handOff.wanted) return this.handOffNow(target, key);
    const context = { handle: this, target, key };
    traces.handOff.sync(context, () => this.handOffNow(target, key));
  }

  private handOffNow(target: CompletionPort | PortToken, key?: KeyOption): void {
    this.assertOpen();
    if (this.style === 'await') throw invalidState('Only a handle with a key can be handed off');
    const { native } = this.thread;
    const port = portIdOf(target);
    const newKey = keyOf(this.thread, key) ?? Number(this.key);
    this.thread.flush();
    const result = native.handOff(this.id, port, newKey);
    if (result < 0) throw systemError(result, 'handOff', this.subject());
    watchQueue(port);
    this.gone();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (this.close() as Operation<void> | undefined);
  }

  [inspect.custom](_depth: number, options: object, show: typeof inspect): string {
    return `${this.typeName} ${show(this.describe(), options)}`;
  }

  toJSON(): object {
    return { kind: this.kind, id: this.id, ...this.describe() };
  }

  /** As lib/api.ts calls it. */
  private get typeName(): string {
    const kind = this.kind[0]!.toUpperCase() + this.kind.slice(1);
    return this.style === 'packet' ? `Keyed${kind}` : `${kind}Handle`;
  }

  /** @internal What an error of one of its operations is about. */
  abstract subject(): Subject;

  /** @internal The close is answered. One that another thread's `port.close()` forestalls is one, too. */
  after(error: number): unknown {
    if (points.closed.wanted) points.closed.publish({ handle: this });
    this.gone();
    const forestalled = error === (LibraryError.PortClosed as number);
    return forestalled && this.#closing !== undefined ? ENOUGH : undefined;
  }

  /** @internal The signal that it was opened with closes it. */
  closeOn(signal: AbortSignal): void {
    this.#signal = signal;
    endWith(signal, this);
  }

  /** @internal That signal was aborted. */
  onAbort(): void {
    if (this.closed || this.thread.closed) return;
    const closing = this.close() as Operation<void> | undefined;
    closing?.catch(() => undefined);
  }

  /**
   * @internal Closes a handle nobody has heard of: no packet tells of it, whatever the style, and
   * nobody is interested in a failure either.
   */
  closeQuietly(): void {
    this.closeForPort().catch(() => undefined);
  }

  /** @internal Resolves when a handle of await style that was closed is gone. */
  whenClosed(): Operation<void> | undefined {
    if (this.style === 'packet') return undefined;
    return this.#closing ?? Operation.done(this.thread, Kind.Close, undefined);
  }

  /** @internal The port closes it: a close that is answered to this thread, whatever the style. */
  closeForPort(): Operation<void> {
    if (this.style === 'await') return this.close() as Operation<void>;
    this.thread.submissions.assertUnchained();
    this.#life = Life.Closing;
    const closing = closeHandle(this.thread, this.id);
    closing.aftermath = this;
    return closing;
  }

  /**
   * @internal Gives its descriptor back, which is the caller's when nothing is in flight any more.
   * Answered to this thread, whatever the style.
   */
  letGo(): Operation<number> {
    this.assertOpen();
    const { thread } = this;
    thread.submissions.assertUnchained();
    thread.flush();
    const result = thread.native.letsGo(this.id);
    if (result < 0) throw systemError(result, 'detach', this.subject());
    this.#life = Life.Closing;
    this.forget();
    const operation = operationOf(thread, Kind.Close, this.subject(), takeDescriptor, this);
    operation.aftermath = this;
    operation.token = thread.add(operation);
    thread.submissions.close(this.id, operation.token, SubmissionFlag.KeepOpen);
    return operation;
  }

  /** @internal The handle does not exist any more, as far as this thread is concerned. */
  gone(): void {
    if (this.#life === Life.Gone) return;
    this.unref();
    if (this.kind === 'listener') this.thread.unwatch(this);
    if (this.#signal !== undefined) outlive(this.#signal, this);
    this.forget();
    this.#life = Life.Gone;
    this.thread.handles.delete(this);
  }

  /** @internal */
  assertOpen(): void {
    this.thread.assertOpen();
    if (this.#life !== Life.Open) throw handleClosed();
    this.thread.submissions.assertUnchained(this);
  }

  /** What was begun and not submitted yet will not be. */
  protected forget(): void {
    // Only sockets hold anything back.
  }

  /** What `util.inspect` shows. */
  protected describe(): Record<string, unknown> {
    const info = this.thread.closed ? undefined : this.thread.native.handleInfo(this.id);
    return {
      key: this.key,
      descriptor: info?.descriptor,
      inFlight: info?.inFlight ?? 0,
      state: ['open', 'closing', 'closed'][this.#life],
    };
  }

  /** Submits an operation with at most one slice of pool memory. */
  protected request<T>(
    kind: Kind,
    decode: Decode<T>,
    options: OperationOptions = noOptions,
    offset = 0,
    length = 0,
    chunk = NO_CHUNK,
    start = 0,
    bytes = 0,
    flags = 0,
    aftermath?: Aftermath,
    feeder = 0,
  ): Answer<S, T> {
    const timeout = this.timeoutOf(options);
    if (this.thread.submissions.chaining) this.makeRoomInChain(1, aftermath);
    if (this.style === 'packet') {
      refuseSignal(options);
      const { thread, id } = this;
      const key = this.#signedKey!;
      const tag = tagOf(options);
      const how = flags | SubmissionFlag.Keyed | quietOf(options);
      thread.submissions.submit(
        kind,
        how,
        id,
        key,
        timeout,
        offset,
        length,
        chunk,
        start,
        bytes,
        tag,
        feeder,
      );
      return answer<S, T>(undefined);
    }
    const operation = this.begin(kind, decode, options, aftermath);
    if (operation.token >= 0) {
      const { thread, id } = this;
      const { token } = operation;
      thread.submissions.submit(
        kind,
        flags,
        id,
        token,
        timeout,
        offset,
        length,
        chunk,
        start,
        bytes,
        0,
        feeder,
      );
    }
    return answer<S, T>(operation);
  }

  /** Submits an operation with the slices staged in the thread's memory. */
  protected requestStaged(
    kind: Kind,
    options: OperationOptions = noOptions,
    offset = 0,
    aftermath?: Aftermath,
    flags = 0,
    feeder = 0,
  ): Answer<S, number> {
    const timeout = this.timeoutOf(options);
    const { memory } = this.thread;
    if (this.thread.submissions.chaining) this.makeRoomInChain(memory.stagedRecords, aftermath);
    if (this.style === 'packet') {
      refuseSignal(options);
      const { thread, id } = this;
      const how = flags | SubmissionFlag.Keyed | quietOf(options);
      thread.submissions.submitStaged(
        kind,
        how,
        id,
        this.#signedKey!,
        timeout,
        offset,
        tagOf(options),
        feeder,
      );
      return answer<S, number>(undefined);
    }
    const operation = this.begin(kind, asNumber, options, aftermath);
    if (operation.token < 0) memory.unstage();
    else
      this.thread.submissions.submitStaged(
        kind,
        flags,
        this.id,
        operation.token,
        timeout,
        offset,
        0,
        feeder,
      );
    return answer<S, number>(operation);
  }

  /** Submits the slices staged, and then `second` (rule O9), answered as one operation. */
  protected requestPair<T>(
    kind: Kind,
    second: Kind,
    finish: (first: number) => T,
    options: OperationOptions = noOptions,
    offset = 0,
    aftermath?: Aftermath,
    flags = 0,
  ): Answer<S, T> {
    const { thread, id } = this;
    const timeout = this.timeoutOf(options);
    const records = thread.memory.stagedRecords + 1;
    if (thread.submissions.chaining) this.makeRoomInChain(records, aftermath);
    else thread.submissions.ensure(records);
    if (this.style === 'packet') {
      refuseSignal(options);
      const tag = tagOf(options);
      const key = this.#signedKey!;
      const how = SubmissionFlag.Keyed | quietOf(options);
      thread.submissions.submitStaged(
        kind,
        flags | how | SubmissionFlag.Linked,
        id,
        key,
        timeout,
        offset,
        tag,
      );
      thread.submissions.submit(second, how, id, key, timeout, 0, 0, NO_CHUNK, 0, 0, tag);
      return answer<S, T>(undefined);
    }
    const pair = new PairedOperation<T>(thread, kind, this.subject(), finish);
    pair.aftermath = aftermath;
    if (!this.admitted(pair, options)) {
      thread.memory.unstage();
      aftermath?.after(ECANCELED, 0);
      return answer<S, T>(pair);
    }
    this.submitPair(pair, kind, second, timeout, offset, flags);
    return answer<S, T>(pair);
  }

  protected submitPair(
    pair: PairedOperation<unknown>,
    kind: Kind,
    second: Kind,
    timeout: number,
    offset: number,
    flags: number,
  ): void {
    const { thread, id } = this;
    const { first } = pair;
    thread.submissions.ensure(thread.memory.stagedRecords + 1);
    first.token = thread.add(first);
    pair.token = thread.add(pair);
    thread.submissions.submitStaged(
      kind,
      flags | SubmissionFlag.Linked,
      id,
      first.token,
      timeout,
      offset,
    );
    thread.submissions.submit(second, 0, id, pair.token, timeout, 0, 0, NO_CHUNK, 0, 0);
  }

  /**
   * Checks `options`, before memory is taken for the operation; false when their signal is aborted
   * already.
   */
  protected admits(options: OperationOptions | undefined): boolean {
    if (options === undefined) return true;
    validate.options(options);
    validate.timeout(options.timeout);
    if (this.style === 'packet') {
      refuseSignal(options);
      tagOf(options);
      quietOf(options);
    } else {
      refusePacketOptions(options);
    }
    return !validate.signal(options.signal)?.aborted;
  }

  /** `request` with the options that each operation has, and no others. */
  protected plain<T>(
    kind: Kind,
    decode: Decode<T>,
    options: OperationOptions | undefined,
    offset?: number,
    length?: number,
  ): Answer<S, T> {
    validate.knownOf(options, OPERATION_OPTIONS);
    return this.request(kind, decode, options, offset, length);
  }

  /** Checks `options`, and gives their timeout for native code. */
  private timeoutOf(options: OperationOptions): number {
    if (options === noOptions) return 0;
    validate.options(options);
    if (this.style === 'await') refusePacketOptions(options);
    return options.timeout === undefined ? 0 : validate.timeout(options.timeout);
  }

  /** The answer when the signal is aborted already. */
  protected refusedByAbort<T>(kind: Kind, options: OperationOptions | undefined): Answer<S, T> {
    return this.refuse(kind, abortError(options?.signal?.reason));
  }

  /** An answer that needs no kernel. */
  protected answerNow<T>(kind: Kind, value: T): Answer<S, T> {
    return answer<S, T>(Operation.done(this.thread, kind, value));
  }

  /** Await style: an operation that rejects; packet style has nothing to reject, so it throws. */
  protected refuse<T>(kind: Kind, error: Error): Answer<S, T> {
    this.thread.submissions.breakChain();
    if (this.style === 'packet') throw error;
    return answer<S, T>(Operation.failed<T>(this.thread, kind, error));
  }

  /**
   * Throws when the chain that is described has no room for so many records, or, in packet style, a
   * member of it was refused. What was taken for the operation goes back.
   */
  protected makeRoomInChain(records: number, aftermath: Aftermath | undefined): void {
    const { thread } = this;
    try {
      thread.submissions.ensure(records);
      if (this.style === 'packet' && thread.submissions.chainBroken) {
        throw invalidState('An operation of the chain was refused');
      }
    } catch (error) {
      thread.memory.unstage();
      aftermath?.after(ECANCELED, 0);
      throw error;
    }
  }

  /**
   * False when the operation has failed before it was submitted: its signal is aborted, or a member
   * of its chain before it was refused.
   */
  private admitted(operation: Operation<unknown>, options: OperationOptions): boolean {
    const { thread } = this;
    if (thread.submissions.chainBroken) {
      operation.fail(operation.errorOf(ECANCELED));
      return false;
    }
    if (options.signal === undefined || watchSignal(operation, options)) return true;
    thread.submissions.breakChain();
    return false;
  }

  /** A new operation, in flight under a token unless its signal is aborted already. */
  private begin<T>(
    kind: Kind,
    decode: Decode<T>,
    options: OperationOptions,
    aftermath: Aftermath | undefined,
  ): Operation<T> {
    const operation = operationOf<T>(this.thread, kind, this.subject(), decode, this);
    operation.aftermath = aftermath;
    if (this.admitted(operation, options)) operation.token = this.thread.add(operation);
    else aftermath?.after(ECANCELED, 0);
    return operation;
  }
}

/** One for all handles. */
function cancel(this: Handle<Style>): void {
  this.cancelAll();
}

function tagOf(options: OperationOptions): number {
  return options.tag === undefined ? 0 : validate.u32(options.tag, 'options.tag');
}

function quietOf(options: OperationOptions): number {
  if (options.quiet === undefined) return 0;
  return validate.boolean(options.quiet, 'options.quiet') ? SubmissionFlag.Quiet : 0;
}

/** Closes a handle; the answer comes to this thread. */
export function closeHandle(thread: PortThread, id: number): Operation<void> {
  thread.submissions.assertUnchained();
  const operation = new Operation<void>(thread, Kind.Close, {}, asNothing);
  operation.token = thread.add(operation);
  thread.submissions.close(id, operation.token);
  return operation;
}

/** The one place where the two styles are told apart without the compiler's help. */
export function answer<S extends Style, T>(operation: Operation<T> | undefined): Answer<S, T> {
  return operation as Answer<S, T>;
}

/** A signal cancels one operation, which only the thread that awaits it can name. */
function refuseSignal(options: OperationOptions): void {
  if (options.signal === undefined) return;
  throw validate.invalidValue(
    'options.signal',
    'is for handles without a key; use handle.cancel()',
    options.signal,
  );
}

/** Only a packet has a tag, and can be spared. */
function refusePacketOptions({ tag, quiet }: OperationOptions): void {
  if (tag === undefined && quiet === undefined) return;
  const [name, value] = tag === undefined ? ['quiet', quiet] : ['tag', tag];
  throw validate.invalidValue(`options.${name}`, 'is for handles with a key', value);
}

/** The number of a key option; undefined when none was given. */
export function keyOf(thread: PortThread, key: KeyOption | undefined): number | undefined {
  if (key === undefined) return undefined;
  return key === 'unique' ? thread.native.uniqueKey() : validate.u32(key, 'key');
}

/** The asynchronous context of the caller, for a handle under `key` that is to keep it. */
export function contextOf(
  thread: PortThread,
  key: number | undefined,
  kept: boolean | undefined,
): AsyncResource | undefined {
  if (!validate.boolean(kept ?? false, 'options.asyncResource')) return undefined;
  if (key === undefined) {
    const reason = 'is for handles with a key: what is awaited keeps its context by itself';
    throw validate.invalidValue('options.asyncResource', reason, kept);
  }
  thread.keepsContexts = true;
  return new AsyncResource('CompletionPortHandle');
}

/** The number of a port of this process; throws for what is none, or another copy's. */
export function portIdOf(target: CompletionPort | PortToken, name = 'target'): number {
  if (typeof target !== 'object' || target === null) {
    throw validate.invalidType(name, 'a CompletionPort or its token', target);
  }
  const { completionPort, instance } = tokenOf(target);
  const id = validate.u32(completionPort, `${name}.completionPort`);
  if (validate.string(instance, `${name}.instance`) === binding.instance) return id;
  throw portForeign();
}

export function tokenOf(target: CompletionPort | PortToken): PortToken {
  return 'token' in target ? target.token : target;
}
