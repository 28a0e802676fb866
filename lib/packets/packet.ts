/**
 * The packet at hand: one object for each thread, which looks into the completion array.
 */
import type { AsyncResource } from 'node:async_hooks';
import { inspect } from 'node:util';
import {
  handleAt,
  MessageForm,
  NO_CHUNK,
  Slot,
  PacketFlag,
  type LibraryError,
} from '../native/layout';
import { Kind, packetNameOf, type PacketName } from '../native/kinds';
import {
  bufferReleased,
  codeOf,
  failure,
  invalidState,
  packetReleased,
  portForeign,
} from '../support/errors';
import type { KeyedSocket, Operation, PacketObject, PacketType, SocketHandle } from '../api';
import type { Block } from '../thread/memory';
import type { PortThread } from '../thread/port-thread';
import type { OperationOptions } from '../await/operation';
import { TcpSocket } from '../handles/socket';
import { invalidType } from '../support/validate';
import { acceptedSocket, handleFor, type AnyHandle } from '../handles/from-packet';

const SLOT_WORDS = Slot.SIZE / 4;
/** Here, since it is read for each packet. */
const NONE = NO_CHUNK;
/** In place of an index: the object shows no packet. */
const NOTHING = -1;

/**
 * One completion, or one posted message. **It is valid while the packet is at hand**: until the next
 * packet is asked for, or, in a handler of `consume`, until the handler returns. To read it later
 * throws `ERR_PACKET_RELEASED`; `toObject()` makes a copy that stays valid.
 *
 * `packets()` gives an object for each packet. `get` and `consume`, whose packets are dealt with
 * without awaiting anything, use a few objects in turn: one that was kept for later shows no packet,
 * or, where it has come round, the one at hand.
 *
 * The bytes of a `received` packet are lent in the same way: their buffer returns to the port when
 * the loop moves on, unless `keep()` or `sendTo()` was called. Operations that were submitted with
 * them have them until their end.
 *
 * What its public members do stands in lib/api.ts.
 */
export class Packet {
  readonly #thread: PortThread;
  #words: Uint32Array;
  #numbers: Float64Array;
  /** Where the packet at hand begins; NOTHING: none is. */
  #at = NOTHING;
  /** Whether the buffer of received bytes is to be released when the loop moves on. */
  #lends = false;
  /** The received bytes, or a message's, once they are the program's. */
  #kept: Buffer | undefined = undefined;
  /** Of a message whose bytes the program has seen. */
  #message: Block | undefined = undefined;
  /** Whether a message's bytes stay this thread's beyond the batch, and are to be released. */
  #retained = false;
  #cachedError: Error | undefined = undefined;
  #ownWords: Uint32Array | undefined;
  #ownNumbers: Float64Array | undefined;

  /** @internal */
  constructor(thread: PortThread) {
    this.#thread = thread;
    this.#words = thread.words;
    this.#numbers = thread.numbers;
  }

  get type(): PacketName {
    return packetNameOf(this.kind);
  }

  get key(): number {
    return this.word(Slot.KEY / 4);
  }

  get handle(): AnyHandle | undefined {
    const words = this.#words;
    const at = this.place;
    const id = handleAt(words, at + Slot.HANDLE / 4);
    if (id === 0) return undefined;
    return handleFor(this.#thread, id, words[at + Slot.KEY / 4]!, kindIn(words, at));
  }

  get bytes(): number {
    return this.result;
  }

  /** The result of others is told by `bytes`: a message's length would pass for its value. */
  get value(): number | undefined {
    const { kind } = this;
    return kind === Kind.Posted || kind === Kind.Timer ? this.result : undefined;
  }

  get failed(): boolean {
    return this.errorNumber !== 0;
  }

  get code(): string | undefined {
    const error = this.errorNumber;
    return error === 0 ? undefined : codeOf(error);
  }

  get error(): Error | undefined {
    const error = this.errorNumber;
    if (error === 0) return undefined;
    const handle = this.handle;
    this.#cachedError ??= failure(error, this.kind, handle ? handle.subject() : {});
    return this.#cachedError;
  }

  get tag(): number {
    return this.word(Slot.TAG / 4);
  }

  get more(): boolean {
    return (this.flags & PacketFlag.More) !== 0;
  }

  get accepted(): TcpSocket<'packet'> | undefined {
    if (this.kind !== Kind.Accept) return undefined;
    const id = handleAt(this.#words, this.#at + Slot.ACCEPTED / 4);
    if (id === 0) return undefined;
    return acceptedSocket(this.#thread, id, this.#words[this.#at + Slot.ACCEPTED_KEY / 4]!, this);
  }

  get data(): Buffer | undefined {
    if (this.kind === Kind.Message) return this.messageBytes();
    const chunk = this.chunk;
    if (chunk === NONE) return undefined;
    if (this.#kept !== undefined) return this.#kept;
    if (!this.#lends) throw bufferReleased();
    return this.#thread.memory.lend(chunk, this.start, this.bytes);
  }

  get message(): unknown {
    if (this.kind !== Kind.Message) return undefined;
    const form = this.word(Slot.TOKEN / 4) as MessageForm;
    if (form === MessageForm.Bytes) return this.data;
    if (!this.#lends) throw bufferReleased();
    return this.#thread.memory.valueAt(form, this.chunk, this.start, this.bytes);
  }

  keep(): Buffer {
    if (this.kind === Kind.Message) return this.keepMessage();
    if (this.chunk === NONE) throw invalidState('The packet holds no received bytes');
    if (!this.#lends) throw bufferReleased();
    this.#lends = false;
    return (this.#kept = this.#thread.memory.keep(this.chunk, this.start, this.bytes));
  }

  release(): void {
    if (this.kind === Kind.Message) return this.endMessage();
    if (this.chunk === NONE) return;
    if (!this.#lends) throw bufferReleased();
    this.#lends = false;
    this.#thread.memory.takeBack(this.chunk, this.start);
  }

  sendTo(socket: KeyedSocket, options?: OperationOptions): boolean;
  sendTo(socket: SocketHandle, options?: OperationOptions): Operation<number>;
  sendTo(
    socket: KeyedSocket | SocketHandle,
    options?: OperationOptions,
  ): boolean | Operation<number> {
    const words = this.#words;
    const at = this.place;
    const chunk = words[at + Slot.CHUNK / 4]!;
    if (chunk === NONE || kindIn(words, at) === Kind.Message) {
      throw invalidState('The packet holds no received bytes');
    }
    if (!this.#lends) throw bufferReleased();
    checkSocket(socket);
    const start = words[at + Slot.START / 4]!;
    const feeder = handleAt(words, at + Slot.HANDLE / 4);
    const answer = socket.forward(chunk, start, this.result, feeder, options);
    this.#lends = false;
    this.#thread.memory.forget(chunk, start);
    return answer;
  }

  /**
   * Its own, and a function: so `postMessage` says at once that the packet can't be posted, and what
   * can, where it would give the other thread an object that is empty.
   */
  readonly toObject = toObject;

  /** @internal */
  copy(): PacketObject {
    const { type, key, handle, value, tag, bytes, failed, code, error, more, accepted } = this;
    const { kind } = this;
    const data = this.hasBytes ? this.data : undefined;
    const copied = data === undefined ? undefined : Buffer.from(data);
    const message = copied !== undefined || !this.hasBytes ? undefined : this.message;
    return {
      type: type as PacketType,
      key,
      handle,
      value,
      tag,
      bytes,
      failed,
      code,
      error,
      more,
      accepted,
      data: copied,
      message: kind === Kind.Message ? (copied ?? message) : undefined,
    };
  }

  [inspect.custom](_depth: number, options: object, show: typeof inspect): string {
    if (this.#at === NOTHING) return 'Packet { released }';
    const { type, key, bytes, code, more } = this;
    const result = code ?? bytes;
    return `Packet ${show({ type, key, result, more }, options)}`;
  }

  /** Without the handle, which may be gone, and the bytes, which may be many. */
  toJSON(): object {
    if (this.#at === NOTHING) return { released: true };
    const { type, key, bytes, value, code, tag, more } = this;
    const result = value === undefined ? { bytes } : { value };
    return { type, key, ...result, code, tag, more };
  }

  /** @internal The handle whose bytes the packet holds; 0: it holds none. */
  get feeder(): number {
    if (this.#at === NOTHING || this.chunk === NONE || this.kind === Kind.Message) return 0;
    return handleAt(this.#words, this.#at + Slot.HANDLE / 4);
  }

  /** @internal The asynchronous context that its handle keeps. */
  get context(): AsyncResource | undefined {
    return this.#thread.handles.get(handleAt(this.#words, this.#at + Slot.HANDLE / 4))
      ?.asyncResource;
  }

  /** @internal Shows the packet at `at` of the completion array. */
  enter(at: number): void {
    const { words } = this.#thread;
    if (this.#words !== words) {
      this.#words = words;
      this.#numbers = this.#thread.numbers;
    }
    this.#at = at;
    if (this.#cachedError !== undefined) this.#cachedError = undefined;
    this.#lends = words[at + Slot.CHUNK / 4] !== NONE;
    if (this.#kept !== undefined) this.#kept = undefined;
  }

  /** @internal The program is done with the packet: from now on the object shows none. */
  leave(): void {
    if (this.#at === NOTHING) return;
    const kind = kindIn(this.#words, this.#at);
    if (kind === Kind.Message) this.leaveMessage();
    else if (this.#lends) this.#thread.memory.takeBack(this.chunk, this.start);
    this.#lends = false;
    if (kind === Kind.Close)
      this.#thread.handles.get(handleAt(this.#words, this.#at + Slot.HANDLE / 4))?.after(0);
    this.#at = NOTHING;
  }

  /** @internal The completion array is about to be reused. */
  copyOut(): void {
    this.#ownWords ??= new Uint32Array(SLOT_WORDS);
    this.#ownNumbers ??= new Float64Array(this.#ownWords.buffer);
    this.#ownWords.set(this.#words.subarray(this.#at, this.#at + SLOT_WORDS));
    this.#words = this.#ownWords;
    this.#numbers = this.#ownNumbers;
    this.#at = 0;
    if (this.kind === Kind.Message && this.#lends) {
      this.#retained = this.#thread.native.retain(this.chunk, this.start);
    }
  }

  // ---- the bytes of a message: the batch has them, and gives them back when it ends

  private messageBytes(): Buffer | undefined {
    if ((this.word(Slot.TOKEN / 4) as MessageForm) !== MessageForm.Bytes) return undefined;
    if (this.#kept !== undefined) return this.#kept;
    if (this.chunk === NONE) return Buffer.alloc(0);
    if (!this.#lends) throw bufferReleased();
    const { memory } = this.#thread;
    this.#message ??= memory.lendMessage(this.chunk, this.start, this.bytes);
    return this.#message.first(this.bytes);
  }

  /** Others may have them, too, and lie beside them: hence a copy. */
  private keepMessage(): Buffer {
    const bytes = this.messageBytes();
    if (bytes === undefined) throw invalidState('The message is a value, not bytes');
    if (this.#kept !== undefined) throw bufferReleased();
    const own = this.#thread.memory.allocate(Math.max(1, bytes.length)).subarray(0, bytes.length);
    own.set(bytes);
    this.endMessage();
    return (this.#kept = own);
  }

  private endMessage(): void {
    if (!this.#lends) {
      if (this.chunk !== NONE) throw bufferReleased();
      return;
    }
    this.leaveMessage();
    this.#lends = false;
  }

  private leaveMessage(): void {
    const { memory } = this.#thread;
    if (this.#message !== undefined) memory.endMessage(this.#message);
    this.#message = undefined;
    if (this.#retained) this.#thread.release(this.chunk, this.start);
    this.#retained = false;
  }

  /** Whether bytes, or a value, are at hand: they were neither released nor sent on. */
  private get hasBytes(): boolean {
    if (this.#lends || this.#kept !== undefined) return true;
    return this.kind === Kind.Message && this.chunk === NONE;
  }

  /** Where it is in the completion array; throws when the packet is no longer at hand. */
  private get place(): number {
    if (this.#at === NOTHING) throw packetReleased();
    return this.#at;
  }

  private word(index: number): number {
    return this.#words[this.place + index]!;
  }

  private get result(): number {
    return this.#numbers[this.place / 2 + Slot.RESULT / 8]!;
  }

  private get kind(): Kind {
    return kindIn(this.#words, this.place);
  }

  private get flags(): number {
    return (this.word(Slot.KIND / 4) >>> 8) & 0xff;
  }

  private get errorNumber(): LibraryError | number {
    return this.word(Slot.ERROR / 4) | 0;
  }

  private get chunk(): number {
    return this.word(Slot.CHUNK / 4);
  }

  private get start(): number {
    return this.word(Slot.START / 4);
  }
}

function kindIn(words: Uint32Array, at: number): Kind {
  return words[at + Slot.KIND / 4]! & 0xff;
}

/** One for all packets. */
function toObject(this: Packet): PacketObject {
  return this.copy();
}

/** Another copy of the package has numbers of its own for the same memory. */
function checkSocket(socket: unknown): asserts socket is TcpSocket {
  if (socket instanceof TcpSocket) return;
  if (typeof (socket as Partial<TcpSocket> | undefined)?.forward === 'function')
    throw portForeign();
  throw invalidType('socket', 'a socket of a port', socket);
}
