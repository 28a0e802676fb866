/**
 * Channels between threads: values lie in the port's memory, in a queue that native code holds
 * (native/port/shared_queue.h).
 */
import { inspect } from 'node:util';
import type { AwaitOptions, CompletionPort as Port, PortToken } from '../api';
import { running, type Waiter } from '../await/suspension';
import { ItemPart, PutFlag, QueueOutcome } from '../native/binding';
import { NO_CHUNK } from '../native/layout';
import { CompletionPort } from '../port';
import { lengthOf } from '../support/bytes';
import {
  Area,
  canClone,
  cannotClone,
  deserialize,
  Form,
  freeze,
  isBytes,
  type Frozen,
} from '../support/codec';
import { outOfBuffers, portClosed } from '../support/errors';
import { fromThrown, toThrown, type Thrown } from '../support/thrown';
import { nextTick } from '../support/timers';
import * as validate from '../support/validate';
import type { PortThread } from '../thread/port-thread';
import type * as api from './api';
import { pipe, type Channel } from './channel';
import {
  channels,
  expect,
  forget,
  item,
  keep,
  Membership,
  newTicket,
  small,
  type Expectant,
} from './ends';
import { channelClosed, Takable, Taking } from './taking';
import type { Wait } from './wait';

const LARGEST = 2 ** 31 - 1;
const NO_TICKET = -1;

/** How an item lies in the queue: as the codec's forms, or without memory. */
const enum Kind {
  Plain = Form.Plain,
  Serialized = Form.Serialized,
  Number = 3,
  /** `NUMBER` is its place in `constants`. */
  Constant = 4,
  /** As they are: a header would have them take twice the memory where they fill a block. */
  Bytes = 5,
  Buffer = 6,
}

const constants: readonly unknown[] = [undefined, null, false, true];

/** Where the channel's state lies in what native code shows. */
const enum Shown {
  SIZE = 0,
  CLOSED = 1,
}

/** What is put, as it was when it was put but for bytes. */
type Content =
  | { readonly kind: Kind; readonly number: number }
  | { readonly kind: Kind; readonly bytes: Uint8Array }
  | Exclude<Frozen, { readonly form: Form.Message }>;

const abandoned = new FinalizationRegistry<Membership>((membership) => membership.quit());

/** Of what `yield*` waits for: to ask for it begins nothing, to call it does. */
function thenOf<T>(wait: Wait<T>): Promise<T>['then'] {
  return (fulfilled, rejected) => {
    const promise = new Promise<T>((resolve, reject) => {
      const wake = (): void => {
        // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- what `fail` was given
        if (wait.failed) reject(wait.value);
        else resolve(wait.value as T);
      };
      wait.hear({ wake });
    });
    return promise.then(fulfilled, rejected);
  };
}

function ignore(): void {
  // Whoever waits hears of it.
}

/** A put or a take that is waited for. */
abstract class Waiting<T> extends Taking<T> implements Expectant {
  readonly owner: SharedChannel<unknown>;
  /** Under which native code has it, while it waits there. */
  protected ticket = NO_TICKET;
  /** It has begun without being waited for: its failure is to be heard of, as that of a promise. */
  private alone = false;
  private unheard: Promise<never> | undefined = undefined;

  constructor(owner: SharedChannel<unknown>, options: AwaitOptions | undefined) {
    super(options);
    this.owner = owner;
  }

  override get then(): Promise<T>['then'] {
    return thenOf(this);
  }

  catch<U>(rejected?: ((reason: unknown) => U | PromiseLike<U>) | null): Promise<T | U> {
    return this.then(undefined, rejected);
  }

  finally(fn?: (() => void) | null): Promise<T> {
    return this.then().finally(fn);
  }

  /** @internal An async function begins it with the call; a micro-thread when it waits. */
  started(): this {
    if (running.thread !== undefined) return this;
    this.alone = true;
    this.begin();
    return this;
  }

  override hear(waiter: Waiter): void {
    this.alone = false;
    this.unheard?.catch(ignore);
    super.hear(waiter);
  }

  /** @internal */
  get membership(): Membership {
    return this.owner.membership;
  }

  /** @internal */
  get gone(): boolean {
    return this.owner.gone;
  }

  /**
   * Begins before the micro-thread is said to wait: what is over at once must not have it wait. Where
   * it may not, nothing has begun.
   */
  override next(): this {
    this.alone = false;
    this.unheard?.catch(ignore);
    if (running.thread !== undefined && !this.done && !this.failed) this.begin();
    try {
      return super.next();
    } finally {
      if (this.waiter === undefined) this.stop();
    }
  }

  told(): void {
    const outcome = channels().hear(this.membership.id, this.ticket);
    if (outcome === QueueOutcome.Waits) return;
    this.forget();
    this.settle(outcome);
  }

  cut(error: Error, ended: boolean): void {
    this.ticket = NO_TICKET;
    this.refuse(error, ended);
  }

  /** @internal What came of it. `Done`, of a take: the item is this thread's to read. */
  abstract settle(outcome: QueueOutcome): void;
  /** Asks native code for it, which tells of `ticket` where the outcome is `Waits`. */
  protected abstract attempt(ticket: number): QueueOutcome;

  protected override begin(): void {
    if (this.ticket !== NO_TICKET || this.refused()) return;
    const ticket = newTicket();
    let outcome: QueueOutcome;
    try {
      outcome = this.attempt(ticket);
    } catch (error) {
      this.fail(error);
      return;
    }
    if (outcome !== QueueOutcome.Waits) {
      this.settle(outcome);
      return;
    }
    this.ticket = ticket;
    expect(ticket, this);
    this.startLimit();
  }

  protected override stop(): void {
    this.endLimit();
    if (this.ticket !== NO_TICKET) this.give(this.forget());
  }

  /** Nobody waits for what was asked for under `ticket`. */
  protected give(ticket: number): QueueOutcome {
    return channels().leave(this.membership.id, ticket);
  }

  protected override fail(error: unknown): void {
    super.fail(error);
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- what `fail` was given
    if (this.alone) this.unheard = Promise.reject(error);
  }

  private forget(): number {
    const { ticket } = this;
    forget(ticket);
    this.ticket = NO_TICKET;
    return ticket;
  }
}

class Put extends Waiting<void> {
  private readonly content: Content;

  constructor(owner: SharedChannel<unknown>, content: Content, options: AwaitOptions | undefined) {
    super(owner, options);
    this.content = content;
  }

  override get what(): string {
    return 'put';
  }

  /** Whoever waits hears of what is in the channel by now: that was put, and is not given up. */
  override abandon(waiter: Waiter): boolean {
    if (this.waiter !== waiter) return super.abandon(waiter);
    this.stop();
    if (this.done) nextTick(() => this.tell());
    else this.waiter = undefined;
    return !this.done;
  }

  settle(outcome: QueueOutcome): void {
    if (outcome === QueueOutcome.Done) this.fulfil();
    else this.fail(this.owner.refusal(outcome));
  }

  protected override attempt(ticket: number): QueueOutcome {
    return this.owner.submit(this.content, ticket);
  }

  protected override give(ticket: number): QueueOutcome {
    const outcome = super.give(ticket);
    this.done = outcome === QueueOutcome.Done;
    return outcome;
  }
}

/** What it was told of and has not heard goes back to its place when it is given up. */
class Take<T> extends Waiting<T> {
  settle(outcome: QueueOutcome): void {
    if (outcome === QueueOutcome.Done) this.read();
    else if (outcome === QueueOutcome.Gone) this.refuse(portClosed(), this.owner.left);
    else this.refuse(this.owner.ending(outcome), outcome === QueueOutcome.Closed);
  }

  protected override attempt(ticket: number): QueueOutcome {
    if (this.owner.gone) return QueueOutcome.Gone;
    return channels().take(this.membership.id, ticket, 1);
  }

  /** Where there is no memory for the value, whoever waits hears of that. */
  private read(): void {
    let value: T;
    try {
      value = this.owner.readItem() as T;
    } catch (error) {
      this.refuse(error, false);
      return;
    }
    this.fulfil(value);
  }
}

/** The SharedChannel of lib/micro/api.ts. */
export class SharedChannel<T> extends Takable<T> implements api.SharedChannel<T> {
  readonly capacity: number;
  /** @internal */
  readonly membership: Membership;
  private readonly thread: PortThread;
  private readonly portToken: PortToken;
  private readonly shown: Uint32Array;
  /** By chunk. */
  private readonly areas = new Map<number, Area>();
  private failure: { readonly error: unknown } | undefined = undefined;

  constructor(port: Port | PortToken, capacity: number);
  /** @internal */
  constructor(port: Port | PortToken, capacity: number, known: number);
  constructor(port: Port | PortToken, capacity: number, known?: number) {
    super();
    const { thread, token } = CompletionPort.attach(port);
    this.capacity = validate.integer(capacity, 'capacity', 1, LARGEST);
    thread.assertOpen();
    this.thread = thread;
    this.portToken = token;
    if (known !== undefined && !channels().join(known)) throw channelClosed(undefined);
    this.membership = new Membership(known ?? channels().make(capacity), thread);
    this.shown = new Uint32Array(channels().shown(this.membership.id));
    if (known === undefined) keep(this.membership, this);
    abandoned.register(this, this.membership);
  }

  static attach<T>(token: api.SharedChannelToken): SharedChannel<T> {
    const given = token as Partial<api.SharedChannelToken> | null;
    if (typeof given !== 'object' || given?.sharedChannel === undefined) {
      throw validate.invalidType('token', 'the token of a SharedChannel, channel.token', token);
    }
    const id = validate.u32(token.sharedChannel, 'token.sharedChannel');
    return new SharedChannel<T>(token.port, token.capacity, id);
  }

  get token(): api.SharedChannelToken {
    const { membership, portToken: port, capacity } = this;
    return Object.freeze({ sharedChannel: membership.id, port, capacity });
  }

  get size(): number {
    return this.gone ? 0 : Atomics.load(this.shown, Shown.SIZE);
  }

  get closed(): boolean {
    return this.gone || Atomics.load(this.shown, Shown.CLOSED) === 1;
  }

  put(value: T, options?: AwaitOptions): Put {
    return new Put(this, contentOf(value), options).started();
  }

  take(options?: AwaitOptions): Take<T> {
    return this.newTake(options).started();
  }

  tryPut(value: T): boolean {
    const content = contentOf(value);
    // Where it is full nothing is copied for nothing.
    if (this.size >= this.capacity && !this.closed) return false;
    const outcome = this.submit(content, NO_TICKET);
    if (outcome === QueueOutcome.NotNow) return false;
    if (outcome === QueueOutcome.Done) return true;
    throw this.refusal(outcome);
  }

  tryTake(): T | undefined {
    const take = this.newTake();
    this.giveNow(take);
    if (take.failed) throw take.value;
    return take.value as T | undefined;
  }

  close(): void {
    if (!this.gone) channels().close(this.membership.id);
  }

  fail(error: unknown): void {
    if (this.closed) return;
    const thrown = freeze([toThrown(error, canClone)], refuseMessage);
    channels().fail(this.membership.id, (thrown as Frozen & { bytes: Buffer }).bytes);
  }

  pipe<U>(
    stage: (input: api.ReadonlyChannel<T>, output: api.Channel<U>) => api.Micro<unknown>,
    options: api.PipeOptions = {},
  ): Channel<U> {
    return pipe(this, stage, options);
  }

  ref(): this {
    this.membership.reference = true;
    return this;
  }

  unref(): this {
    this.membership.reference = false;
    return this;
  }

  hasRef(): boolean {
    return this.membership.reference;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      const take = this.newTake();
      try {
        await take;
      } catch (error) {
        if (take.ended) return;
        throw error;
      }
      yield take.value as T;
    }
  }

  [inspect.custom](_depth: number, options: object, show: typeof inspect): string {
    return `SharedChannel ${show(this.toJSON(), options)}`;
  }

  toJSON(): object {
    const { size, capacity, closed } = this;
    return { size, capacity, closed };
  }

  // ---- for its puts and takes

  /** @internal */
  get over(): boolean {
    return this.closed && this.size === 0;
  }

  /** @internal The port is closed, or this thread has left it. */
  get gone(): boolean {
    return this.thread.closed || this.thread.closing;
  }

  /** @internal This thread has closed the port, or left it. */
  get left(): boolean {
    return this.thread.left || this.thread.closing;
  }

  /** @internal */
  newTake(options?: AwaitOptions): Take<T> {
    return new Take<T>(this, options);
  }

  /** @internal */
  giveNow(take: Taking<T>): void {
    const outcome = this.gone ? QueueOutcome.Gone : channels().take(this.membership.id, 0, 0);
    if (outcome !== QueueOutcome.NotNow) (take as Take<T>).settle(outcome);
  }

  /** @internal Other threads may take from it. */
  abandon(): void {
    // It ends with whoever closes it.
  }

  /** @internal Puts it now, or under `ticket` when there is room. Throws where there is no memory. */
  submit(content: Content, ticket: number): QueueOutcome {
    if (this.gone) throw portClosed();
    const flags = ticket === NO_TICKET ? 0 : PutFlag.Waits;
    const { id } = this.membership;
    if ('number' in content) {
      item[ItemPart.FORM] = content.kind;
      item[ItemPart.NUMBER] = content.number;
      item[ItemPart.LENGTH] = 0;
      return channels().put(id, ticket >>> 0, flags);
    }
    return this.submitBytes(content, ticket >>> 0, flags);
  }

  /** @internal The item that native code has just shown, as a value of the program's own. */
  readItem(): T {
    const kind = item[ItemPart.FORM] as Kind;
    const number = item[ItemPart.NUMBER]!;
    if (kind === Kind.Number) return number as T;
    if (kind === Kind.Constant) return constants[number] as T;
    const chunk = item[ItemPart.CHUNK]!;
    const length = item[ItemPart.LENGTH]!;
    if (chunk === NO_CHUNK) return readSmall(kind, length) as T;
    const start = item[ItemPart.START]!;
    try {
      if (kind === Kind.Bytes || kind === Kind.Buffer) {
        const own = this.thread.memory.copyOut(chunk, start, length);
        return (kind === Kind.Buffer ? own : new Uint8Array(own.buffer, 0, length)) as T;
      }
      return this.area(chunk).read(kind as number, start, length)[0] as T;
    } finally {
      channels().finish();
    }
  }

  /** @internal Why nothing is put. */
  refusal(outcome: QueueOutcome): Error {
    if (outcome === QueueOutcome.Gone) return portClosed();
    return channelClosed(outcome === QueueOutcome.Failed ? this.reason() : undefined);
  }

  /** @internal Why nothing is taken. */
  ending(outcome: QueueOutcome): unknown {
    return outcome === QueueOutcome.Failed ? this.reason() : channelClosed(undefined);
  }

  private submitBytes(
    content: Exclude<Content, { readonly number: number }>,
    ticket: number,
    flags: number,
  ): QueueOutcome {
    const { memory } = this.thread;
    if (!memory.reserve(sizeOf(content))) throw outOfBuffers();
    const { chunk, start, stagedCopy: own } = memory;
    let length: number;
    try {
      length = this.write(content, chunk, start);
    } catch (error) {
      if (own) memory.give(chunk, start);
      else memory.shorten(0);
      throw error;
    }
    memory.shorten(length);
    item[ItemPart.FORM] = 'kind' in content ? content.kind : content.form;
    item[ItemPart.CHUNK] = chunk;
    item[ItemPart.START] = start;
    item[ItemPart.LENGTH] = length;
    const how = flags | (own ? PutFlag.OwnBlock : 0);
    const outcome = channels().put(this.membership.id, ticket, how);
    const kept = outcome === QueueOutcome.Done || outcome === QueueOutcome.Waits;
    if (own && !kept) memory.give(chunk, start);
    return outcome;
  }

  /** Writes into memory that was reserved; how many bytes. */
  private write(
    content: Exclude<Content, { readonly number: number }>,
    chunk: number,
    start: number,
  ): number {
    if (!('kind' in content)) return this.area(chunk).write(content, start);
    this.thread.memory.bytes(chunk).set(content.bytes, start);
    return lengthOf(content.bytes);
  }

  private area(chunk: number): Area {
    let area = this.areas.get(chunk);
    if (area === undefined) {
      area = new Area(this.thread.memory.bytes(chunk));
      this.areas.set(chunk, area);
    }
    return area;
  }

  private reason(): unknown {
    if (this.failure === undefined) {
      const [thrown] = deserialize(channels().failure(this.membership.id)) as [Thrown];
      this.failure = { error: fromThrown(thrown) };
    }
    return this.failure.error;
  }
}

const smallBytes = new Uint8Array(small.bytes.buffer);
/** Of a Buffer: a Buffer with memory of its own, unlike `Buffer.prototype.slice`. */
// eslint-disable-next-line @typescript-eslint/unbound-method -- called with what it is to copy
const { slice: copyOf } = Uint8Array.prototype;

/** What native code has copied. */
function readSmall(kind: Kind, length: number): unknown {
  if (kind === Kind.Buffer) return copyOf.call(small.bytes, 0, length);
  if (kind === Kind.Bytes) return smallBytes.slice(0, length);
  return small.read(kind as number, 0, length)[0];
}

function sizeOf(content: Exclude<Content, { readonly number: number }>): number {
  return 'kind' in content ? lengthOf(content.bytes) : content.size;
}

/** What no memory can hold: ports, shared memory, and what has to be transferred. */
function refuseMessage(values: readonly unknown[]): never {
  structuredClone(values[0]);
  const text = 'Only a MessagePort carries it: it is shared memory, or is transferred';
  throw new DOMException(text, 'DataCloneError');
}

/** The value as it is now, but for bytes. Throws a DataCloneError. */
function contentOf(value: unknown): Content {
  if (typeof value === 'number') return { kind: Kind.Number, number: value };
  if (typeof value !== 'object' || value === null) {
    const number = constants.indexOf(value);
    if (number >= 0) return { kind: Kind.Constant, number };
  } else if (isBytes(value)) {
    const kind = Buffer.isBuffer(value) ? Kind.Buffer : Kind.Bytes;
    return lengthOf(value) === 0 ? { kind, number: 0 } : { kind, bytes: value };
  }
  try {
    return freeze([value], refuseMessage) as Exclude<Frozen, { readonly form: Form.Message }>;
  } catch (error) {
    throw cannotClone(error, 'What is put');
  }
}
