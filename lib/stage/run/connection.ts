/**
 * The connection at hand, as a handler sees it.
 */
import { inspect } from 'node:util';
import { handleAt, NO_CHUNK, SubmissionFlag } from '../../native/layout';
import { Kind } from '../../native/kinds';
import { invalidState, outOfBuffers, queueFull } from '../../support/errors';
import { asBytes, type Block, type Data } from '../../thread/memory';
import type {
  FileHandle,
  FileOptions,
  KeyedSendFileOptions,
  KeyedSocket,
  Message,
  Operation,
} from '../../api';
import type { TcpSocket } from '../../handles/socket';
import * as validate from '../../support/validate';
import { handleFor } from '../../handles/from-packet';
import { monotonic } from '../../support/clock';
import { setDeadline } from '../record/deadline';
import type {
  HandOffOptions,
  RecordFields,
  RecordOf,
  Reply,
  ReplyOptions,
  TraceEntry,
  Transition,
} from '../api';
import type { State } from '../definition/definition';
import { Event } from '../definition/events';
import { giveReply, StageBatch, StageDocument } from './documents';
import { unknownState } from '../failures';
import { publishTo, type Published } from '../record/publish';
import type { StageMessage } from './message';
import {
  connectionReleased,
  Header,
  IN_TRANSIT,
  NONE,
  RecordFlag,
  releaseView,
  type RecordView,
} from '../record/record';
import type { StageInfo } from '../definition/plan';
import type { StageThread } from './thread';

/** How a connection leaves its state other than for another one. */
export const enum Action {
  None,
  Close,
  HandOff,
  /** Goes back to the native stage that brought its document. */
  Reply,
  /** Stays, in another state. */
  Enter,
}

/** What is called for a packet, in this order. */
export const enum Todo {
  Failed = 1,
  Entered = 2,
  HandedOff = 4,
  /** The packet's own event. */
  Event = 8,
}

type PartOfFile = Pick<KeyedSendFileOptions, 'position' | 'length'>;

const none: HandOffOptions = {};
const noPart: PartOfFile = {};
const TRANSITION = Object.freeze({}) as Transition;
/** Each packet that follows is joined to what was given back: its cost has a bound. */
const MOST_UNREAD = 65_536;
/** Some 24 days: what other timers of Node.js can wait at most. */
const LONGEST = 2 ** 31 - 1;

/**
 * The connection, or task, that a handler is called for. **It is valid until the handler returns**,
 * or the promise that it returned is settled, and throws `ERR_CONNECTION_RELEASED` afterwards. Each
 * packet has an object of its own: one that is used late must never stand for a stranger's
 * connection. What has to outlast the handler belongs into `record`; `key` names the connection as
 * long as it lives.
 *
 * What its public members do stands in lib/stage/api.ts.
 */
export class Connection<
  R extends RecordFields = RecordFields,
  S extends string = string,
  L = unknown,
> {
  /** @internal */
  readonly thread: StageThread;
  /** @internal Its key; -1: the handler is over. */
  recordKey: number;
  /** @internal Where its record begins. */
  readonly at: number;
  /** @internal */
  now: State;
  /** @internal */
  todo = 0;
  /** @internal The packet's own event. */
  event = Event.None;
  /** @internal The number of `sent`, `fileSent` and `posted`. */
  value = 0;
  /** @internal That of `message`. */
  message: StageMessage | undefined = undefined;
  /** @internal The error of `failed`. */
  error: Error | undefined = undefined;
  /** @internal Bytes at hand: where they are. */
  chunk = NO_CHUNK;
  /** @internal */
  start = 0;
  /** @internal */
  length = 0;
  /** @internal */
  action = Action.None;
  /** @internal Where it is handed to. */
  target: StageInfo | undefined = undefined;
  /** @internal */
  targetState = NONE;
  /** @internal Where it goes with Action.Enter. */
  next: State | undefined = undefined;
  /** @internal Its document, where a handler has seen it. */
  documentBlock: Block | undefined = undefined;
  /** @internal Handlers called since its packet was taken, from `thread.callsFrom` on. */
  calls: number;
  /** @internal A native stage may have brought messages that nobody was told yet. */
  brought = false;
  /** @internal When its packet was taken, in milliseconds. */
  readonly began: number;

  private readonly view: RecordView;

  /** @internal */
  constructor(thread: StageThread, key: number, at: number, began: number) {
    this.thread = thread;
    this.recordKey = key;
    this.at = at;
    this.began = began;
    this.calls = thread.callsFrom;
    this.now = thread.machine.initial;
    this.view = new thread.View(key, at);
  }

  get key(): number {
    this.check();
    return this.recordKey;
  }

  get state(): S {
    this.check();
    return this.now.name as S;
  }

  get stage(): string {
    this.check();
    return this.thread.stage.name;
  }

  get record(): RecordOf<R> {
    this.check();
    return this.view as unknown as RecordOf<R>;
  }

  get local(): L {
    this.check();
    return this.thread.localOf(this) as L;
  }

  get handle(): KeyedSocket | undefined {
    return this.handleId === 0 ? undefined : this.packetSocket();
  }

  get remoteAddress(): string | undefined {
    return this.remote()?.address;
  }

  get remotePort(): number | undefined {
    return this.remote()?.port;
  }

  get document(): StageDocument | undefined {
    this.check();
    return StageDocument.of(this);
  }

  get documents(): StageDocument[] {
    this.check();
    return StageDocument.all(this);
  }

  get batch(): StageBatch | undefined {
    this.check();
    return StageBatch.of(this);
  }

  get trace(): TraceEntry[] {
    this.check();
    return this.thread.traceOf(this) ?? [];
  }

  open(
    path: string | Buffer | URL | number,
    flags: string | number = 'r',
    options: FileOptions = {},
  ): Operation<FileHandle> {
    this.check();
    return this.thread.portThread.port.open(path, flags, { ...options, key: undefined });
  }

  get bufferedAmount(): number {
    const handle = this.handleId;
    return handle === 0 ? 0 : this.thread.portThread.outgoing.bytes(handle);
  }

  send(data: Data | readonly Data[]): boolean {
    const handle = this.socket('send');
    validate.data(data, 'data');
    const { portThread } = this.thread;
    const { memory, outgoing } = portThread;
    if (!memory.stage(data, false, outgoing.mayExceed(handle))) throw outOfBuffers();
    if (memory.stagedBytes === 0) return outgoing.isBelow(handle);
    portThread.submissions.ensure(memory.stagedRecords);
    const below = outgoing.add(handle, memory.stagedBytes);
    const quiet = this.now.sent === undefined ? SubmissionFlag.Quiet : 0;
    const flags = below ? quiet : quiet | SubmissionFlag.Full;
    const feeder = this.feederNow();
    portThread.submissions.submitStaged(Kind.Send, flags, handle, 0, 0, 0, 0, feeder);
    this.markSent();
    return below;
  }

  sendFile(file: FileHandle, options: PartOfFile = noPart): boolean {
    this.socket('sendFile');
    validate.options(options);
    validate.known(options, 'options', ['position', 'length']);
    const quiet = !this.thread.machine.hearsOfFiles;
    const { position, length } = options;
    const part = { position, length, quiet };
    const below = this.packetSocket().submitFile(file, part, this.feederNow());
    this.markSent();
    return below;
  }

  end(data?: Data | readonly Data[]): boolean {
    if (data !== undefined) this.send(data);
    const handle = this.socket('end');
    const { portThread } = this.thread;
    portThread.submissions.shutdown(handle, SubmissionFlag.Quiet);
    return portThread.outgoing.isBelow(handle);
  }

  unread(bytes: ArrayBufferView): void {
    this.socket('unread');
    const { portThread, native, records } = this.thread;
    portThread.memory.check(validate.view(bytes, 'bytes'));
    const { byteLength } = bytes;
    if (byteLength === 0) return;
    const { words } = records;
    const [stashed, held] = [(this.at + Header.STASHED) >>> 2, (this.at + Header.HELD) >>> 2];
    const all = words[held]! + byteLength;
    if (all > MOST_UNREAD) {
      const about = `at most ${MOST_UNREAD} bytes, those given back before among them`;
      throw validate.outOfRange('bytes', about, all);
    }
    const result = native.unread(this.recordKey, asBytes(bytes), words[held]! > 0);
    if (result < 0) throw outOfBuffers();
    words[stashed] = words[stashed]! + byteLength;
    words[held] = all;
  }

  post(message: Message = validate.leftOut(arguments.length === 0)): void {
    if (!this.tryPost(message)) throw queueFull();
  }

  tryPost(message: Message = validate.leftOut(arguments.length === 0)): boolean {
    this.check();
    const { portThread } = this.thread;
    const posted = portThread.postMessage(this.recordKey, message);
    if (!posted) portThread.assertPostable();
    return posted;
  }

  publish(keys: Uint32Array | readonly number[], message: Message): number {
    const { count, full } = this.publishTo(keys, message);
    if (full) throw queueFull();
    return count;
  }

  tryPublish(keys: Uint32Array | readonly number[], message: Message): boolean {
    return !this.publishTo(keys, message).full;
  }

  private publishTo(keys: unknown, message: Message): Published {
    this.check();
    const { records, portThread } = this.thread;
    return publishTo(records, keys, message, portThread, () => portThread);
  }

  timeout(milliseconds: number): void {
    this.check();
    const none = milliseconds === 0 || milliseconds === Infinity;
    if (!none && !(validate.number(milliseconds, 'milliseconds') > 0 && milliseconds <= LONGEST)) {
      throw validate.outOfRange('milliseconds', `>= 0 && <= ${LONGEST}`, milliseconds);
    }
    setDeadline(this.thread, this, none ? 0 : monotonic() + milliseconds);
  }

  enter(state: NoInfer<S>): Transition {
    this.leaving('enter');
    const { machine, stage } = this.thread;
    const next = machine.indexes.get(validate.string(state, 'state'));
    if (next === undefined) throw unknownState(stage.name, this.now.name, this.recordKey, state);
    this.next = next;
    this.action = Action.Enter;
    return TRANSITION;
  }

  handOff(stage: string, options: HandOffOptions = none): Transition {
    this.leaving('handOff');
    if (options !== none) {
      validate.options(options);
      validate.known(options, 'options', ['state']);
    }
    const target = this.thread.target(validate.string(stage, 'stage'));
    this.targetState = stateIndex(this, target, options.state);
    this.target = target;
    this.action = Action.HandOff;
    return TRANSITION;
  }

  reply(answer: Reply, options?: ReplyOptions): Transition {
    this.leaving('reply');
    this.target = giveReply(this, answer, options);
    this.targetState = NONE;
    this.action = Action.Reply;
    return TRANSITION;
  }

  close(): Transition {
    this.leaving('close');
    this.action = Action.Close;
    return TRANSITION;
  }

  [inspect.custom](_depth: number, options: object, show: typeof inspect): string {
    if (this.recordKey < 0) return 'Connection {}';
    const { key, stage, state } = this;
    return `Connection ${show({ key, stage, state }, options)}`;
  }

  toJSON(): object {
    if (this.recordKey < 0) return { released: true };
    const { key, stage, state, record } = this;
    return { key, stage, state, record };
  }

  // ---- for the thread

  /** @internal The handler is over: it stands for none from now on. */
  release(): void {
    this.recordKey = -1;
    releaseView(this.view);
    this.target = undefined;
    this.error = undefined;
    this.endMessage();
    if (this.documentBlock === undefined) return;
    this.thread.portThread.memory.endLoan(this.documentBlock);
    this.documentBlock = undefined;
  }

  /** @internal The message is dealt with. */
  endMessage(): void {
    if (this.message === undefined) return;
    this.message.end(this.thread.portThread);
    this.message = undefined;
  }

  /** @internal The bytes at hand. */
  bytesAtHand(): Buffer {
    return this.thread.portThread.memory.lend(this.chunk, this.start, this.length);
  }

  /** @internal */
  get flags(): number {
    return this.thread.records.bytes[this.at + Header.FLAGS]!;
  }

  /** @internal */
  get handleId(): number {
    this.check();
    return handleAt(this.thread.records.words, (this.at + Header.HANDLE) >>> 2);
  }

  private check(): void {
    if (this.thread.records.words[this.at >>> 2] !== this.recordKey) throw connectionReleased();
  }

  private packetSocket(): TcpSocket<'packet'> {
    const { portThread } = this.thread;
    const handle = handleFor(portThread, this.handleId, this.recordKey, Kind.Receive);
    return handle as TcpSocket<'packet'>;
  }

  /** What is sent from `received` holds back the receiving when it is much (rule M4). */
  private feederNow(): number {
    return this.event === Event.Received ? this.handleId : 0;
  }

  /** A close lets it go out first. */
  private markSent(): void {
    const { bytes } = this.thread.records;
    const place = this.at + Header.FLAGS;
    bytes[place] = bytes[place]! | RecordFlag.Sent;
  }

  private socket(what: string): number {
    const handle = this.handleId;
    if ((this.flags & RecordFlag.Closing) !== 0) throw invalidState('The connection is closed');
    if (handle === 0) throw invalidState(`${what}() is for connections; this is a task`);
    return handle;
  }

  private leaving(what: string): void {
    this.check();
    if ((this.flags & RecordFlag.Closing) !== 0) throw invalidState('The connection is closed');
    if (this.action === Action.None) return;
    throw invalidState(
      `${what}() comes after enter(), handOff(), reply() or close() in the same handler`,
    );
  }

  private remote(): { address: string; port: number } | undefined {
    const handle = this.handleId;
    if (handle === 0) return undefined;
    const address = this.thread.native.address(handle, true);
    return typeof address === 'number' ? undefined : address;
  }
}

/** What the record's STATE says while the connection is on its way. */
function stateIndex(c: Connection, target: StageInfo, state: string | undefined): number {
  if (state === undefined) return NONE;
  const index = target.states.indexOf(validate.string(state, 'options.state'));
  if (index < 0 || target.native) throw unknownState(target.name, '(handOff)', c.recordKey, state);
  return IN_TRANSIT | index;
}
