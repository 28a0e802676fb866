/**
 * The public types of stages: what a program can rely on. The classes behind them are held to them
 * by lib/stage/api-check.ts.
 *
 * Unions are open: a minor version may add a member, so a `switch` needs a default.
 */
import type { EventEmitter } from 'node:events';
import type {
  AwaitOptions,
  BufferOptions,
  CompletionPort,
  Data,
  DriverName,
  AsyncLoop,
  FileChunkOptions,
  FileHandle,
  FileOptions,
  KeyedSendFileOptions,
  KeyedSocket,
  ListenerAddress,
  ListenOptions,
  Message,
  Suspended,
  Operation,
  PortStats,
} from '../api';

/**
 * `T`, which this place does not help to infer. (`NoInfer` is of TypeScript 5.4, and these types are
 * for 5.0 and newer.)
 */
type Named<T> = [T][T extends unknown ? 0 : never];

// ---- records

/** What a field may be declared as. */
export type FieldType =
  | 'u8'
  | 'i8'
  | 'u16'
  | 'i16'
  | 'u32'
  | 'i32'
  | 'u64'
  | 'f32'
  | 'f64'
  | 'bool'
  | `utf8[${number}]`
  | `bytes[${number}]`;

/** The fields a stage uses, by name. */
export type RecordFields = Readonly<Record<string, FieldType>>;

/** What a field of that type is in JavaScript. */
export type FieldValue<T extends FieldType> = T extends 'bool'
  ? boolean
  : T extends 'u64'
    ? bigint
    : T extends `utf8[${number}]`
      ? string
      : T extends `bytes[${number}]`
        ? Buffer
        : number;

/**
 * The fields of a stage, as the compiler checks them: in the place of a length that there is not, what
 * it says.
 */
export type CheckedFields<R extends RecordFields> = {
  readonly [K in keyof R]: R[K] extends `${'utf8' | 'bytes'}[${infer Length}]`
    ? Length extends `-${string}` | `0${string}` | `${string}.${string}` | `${string}e${string}`
      ? 'a length is an integer from 1 to 32768, as in utf8[64]'
      : R[K]
    : R[K];
};

/** The record of a connection: its fields, in memory that every thread of every stage shares. */
export type RecordOf<R extends RecordFields> = { -readonly [K in keyof R]: FieldValue<R[K]> };

// ---- what a handler returns

/** Tells transitions from other objects; there is no such property at run time. */
export declare const transition: unique symbol;

/**
 * What `c.enter`, `c.handOff`, `c.close` and `c.reply` give a handler to return: the connection goes
 * on or leaves.
 */
export interface Transition {
  readonly [transition]: true;
}

/**
 * What a handler returns: nothing to stay, the name of a state, or a transition; or a promise, or a
 * generator, of one of these.
 */
export type HandlerResult<S extends string> = S | Transition | void | undefined;

/** Also of a generator, which waits with `yield*` as a micro-thread does. */
type Result<S extends string> =
  HandlerResult<S> | Promise<HandlerResult<S>> | Generator<Suspended, HandlerResult<S>, unknown>;

// ---- documents

/**
 * What `c.reply` takes: bytes, an open file, or a header and a file; or, for documents that came
 * together, an array with the bytes for each.
 */
export type Reply = Data | FileHandle | readonly [header: Data, file: FileHandle] | readonly Data[];

/** What `c.reply` takes beside the answer. */
export interface ReplyOptions {
  /** Where in the file to begin, up to its size. Only with a file. Default: 0. */
  readonly position?: number | undefined;
  /** Bytes of the file that are sent, up to its end. Only with a file. Default: all from `position` on. */
  readonly length?: number | undefined;
  /**
   * The connection is closed when the answer is out, as the native stage closes one that it sends
   * away: what the client still sends is received and thrown away for a while, so that it gets the
   * answer. Documents that came behind this one are not handled. Default: false.
   */
  readonly close?: boolean | undefined;
}

/**
 * A document that a native stage received whole. Valid as long as its connection's handler, or the
 * promise that returned: later `ERR_CONNECTION_RELEASED` is thrown, whatever it is asked for.
 */
export interface StageDocument {
  /** Bytes. */
  readonly length: number;
  /** How many documents the connection has brought, this one included. */
  readonly number: number;
  /** Whether it lies in a file rather than in memory. */
  readonly inFile: boolean;
  /**
   * Why it could not be kept (`ENOSPC`, …): its bytes were dropped, and asking for them throws this.
   * Only where the native stage has no `failed` to send.
   */
  readonly error: Error | undefined;
  /**
   * Its bytes, where the native stage received them, lent until the handler, or its promise, is done;
   * undefined when it lies in a file.
   */
  readonly bytes: Buffer | undefined;
  /**
   * The file that it lies in, opened once more: to be closed by the program. It has no name, and
   * goes with the last one that has it open. `signal` also closes it later. `ERR_INVALID_STATE` for a
   * document in memory.
   */
  open(options?: AwaitOptions): Operation<FileHandle>;
  /**
   * Its bytes piece by piece, wherever they are, in Buffers that stay; `lend: true` lends them: each
   * is then valid until the loop asks for the next.
   */
  chunks(options?: FileChunkOptions): AsyncLoop<Buffer>;
}

/** Documents that came together, as one. Valid as long as their connection's handler. */
export interface StageBatch {
  /** How many documents. */
  readonly length: number;
  /**
   * All of them as they came, each with its delimiter: lent until the handler, or its promise, is
   * done. Undefined where lengths tell them apart, and for a document in a file.
   */
  readonly bytes: Buffer | undefined;
}

// ---- connections

export interface HandOffOptions {
  /** The state it begins in. Default: the stage's initial one. */
  readonly state?: string | undefined;
}

/**
 * The connection, or task, that a handler is called for. **It is valid until the handler returns**,
 * or the promise that it returned is settled: later it throws `ERR_CONNECTION_RELEASED`. What has to
 * outlast the handler belongs into `record`; `key` names the connection as long as it lives.
 */
export interface Connection<
  R extends RecordFields = RecordFields,
  S extends string = string,
  L = unknown,
  N extends string = string,
> {
  /** Names the connection in the pipeline as long as it lives: for `pipeline.post`. */
  readonly key: number;
  /** The state it is in. */
  readonly state: S;
  /** The stage it is at. */
  readonly stage: string;
  /** Its record: the fields that the stage declared. */
  readonly record: RecordOf<R>;
  /** What the stage's `local` made for it in this thread. */
  readonly local: L;
  /** Its socket, in packet style, for options and addresses; undefined for a task. */
  readonly handle: KeyedSocket | undefined;
  /** The peer's address; undefined for a task, or when the connection is gone. */
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  /** The document that a native stage brought with it; the first of several. */
  readonly document: StageDocument | undefined;
  /**
   * All documents that came with this packet, in their order: several where the native stage has
   * `pipelined`, and none where it brought a message.
   */
  readonly documents: StageDocument[];
  /**
   * What `documents` has, as one: how many, and all of their bytes. For many short ones it costs
   * much less than to look at each.
   */
  readonly batch: StageBatch | undefined;
  /**
   * Its last events, the oldest first, as `pipeline.inspect(key)` has them: for a log, in `failed`.
   * Empty unless the pipeline has `trace`.
   */
  readonly trace: TraceEntry[];
  /** Bytes that were given to `send` and are not with the kernel yet. */
  readonly bufferedAmount: number;
  /** Opens a file, to be read, written or given to `reply` in this thread: as `port.open`. */
  open(
    path: string | Buffer | URL | number,
    flags?: string | number,
    options?: FileOptions,
  ): Operation<FileHandle>;
  /**
   * Sends all of `data`, in the order of the calls (rule O7). A failure goes to `failed`; a `sent`
   * handler hears of the success. False when the connection has enough to send (`highWaterMark` of
   * `listen`): a `drain` event follows when most of it is out, and where this is called from
   * `received` nothing more is received until then (rule M4). Throws `ERR_MEMORY_LIMIT` when the
   * connection has as much to send as its mark and the port's memory is used up (rule M7).
   */
  send(data: Data | readonly Data[]): boolean;
  /**
   * Sends an open file of any thread and port, or the part of it that `options` names, in its place
   * in the order of the sends (`socket.sendFile`). The file may be closed at once: it is kept open
   * until it is out. A failure goes to `failed`; the `fileSent` handler of the state that it is in by
   * then hears of the success. False as from `send`; of a file 64 KiB count at most.
   */
  sendFile(file: FileHandle, options?: Pick<KeyedSendFileOptions, 'position' | 'length'>): boolean;
  /** Sends `data`, if any, and then the end of the stream; receiving goes on. False as from `send`. */
  end(data?: Data | readonly Data[]): boolean;
  /**
   * Gives back bytes that are not a whole message yet: `received` is called with them in front of
   * what follows, on whichever thread that is. When the connection goes to another state or stage,
   * they are there at once. A copy; 64 KiB at most, `ERR_OUT_OF_RANGE`: `frames` is for longer
   * messages. `ERR_MEMORY_LIMIT` when the port's memory is used up.
   */
  unread(bytes: ArrayBufferView): void;
  /**
   * A `posted` event for this connection, or `message`, where it is no number, after what waits
   * already. Throws as `port.post` does.
   */
  post(message: Message): void;
  /** The same of a 0. */
  post(): void;
  /** The same as `post`; false when the queue is full. */
  tryPost(message: Message): boolean;
  /** The same of a 0. */
  tryPost(): boolean;
  /**
   * A `message` event, or `posted` for a number, for each of these connections and tasks, wherever in
   * the pipeline they are, and for none that is gone: how many there were. Bytes are in memory once.
   * `ERR_QUEUE_FULL` when the queue of a stage has no room for all that are there: then none of them
   * is told; `ERR_OUT_OF_RANGE` when it never has. Else throws as `port.post` does.
   */
  publish(keys: Uint32Array | readonly number[], message: Message): number;
  /** The same; false when the queue of a stage had no room: those at other stages are told. */
  tryPublish(keys: Uint32Array | readonly number[], message: Message): boolean;
  /**
   * A `timeout` event after `milliseconds`, unless another call sets another time; 0 and Infinity: none. It is
   * kept when the state changes, not when the stage does. Resolution: some 20 ms.
   */
  timeout(milliseconds: number): void;
  /**
   * Goes to another state when the handler is done, as returning its name does: for async handlers,
   * where TypeScript takes a name for any string. `ERR_UNKNOWN_STATE`.
   */
  enter(state: Named<S>): Transition;
  /**
   * Hands the connection to another stage when the handler is done: with its record, and whatever
   * was received and not wanted. `ERR_UNKNOWN_STAGE` (for what is not in `stages` of the definition,
   * too), `ERR_UNKNOWN_STATE`.
   */
  handOff(stage: Named<N>, options?: HandOffOptions): Transition;
  /**
   * Answers the document of a native stage and hands the connection back to that stage, which sends
   * the answer: bytes, a file, or a header and a file. Whichever stage the document is at by now. An
   * open file that is given is closed, and sent from where it is. Several documents that came together
   * are answered by one call, with the bytes of all answers or an array of one for each. `options`: a
   * part of the file only, or the end of the connection behind the answer.
   */
  reply(answer: Reply, options?: ReplyOptions): Transition;
  /**
   * Closes the connection when the handler is done; `closed` is its last event. What was sent before
   * goes out first, as long as any of it moves: after two seconds in which the peer takes nothing
   * the connection is reset, and the pipeline emits `failed` with `ETIMEDOUT`. What the peer still
   * sends is received and thrown away, for two seconds after all is out, so that it gets the answer.
   */
  close(): Transition;
}

// ---- definitions

/**
 * The events of a state. Each handler may be async: the connection's key stays held meanwhile, so
 * nothing else happens to the connection (rule D8). What it throws goes to `failed`.
 */
export interface Handlers<C, S extends string> {
  /** The connection has come into this state: from nowhere, from another stage, or another state. */
  entered?(this: void, c: C): Result<S>;
  /** It came from stage `from`; after `entered`. */
  handedOff?(this: void, c: C, from: string): Result<S>;
  /**
   * Bytes came; they are lent until the handler, or its promise, is done. While a state has no
   * such handler nothing is received, and what has arrived waits with the connection.
   */
  received?(this: void, c: C, bytes: Buffer): Result<S>;
  /** The peer sends no more. `rest`: what `c.unread` gave back, if anything. Default: close. */
  ended?(this: void, c: C, rest: Buffer | undefined): Result<S>;
  /** So many bytes of one `c.send`, called in this state or another with such a handler, are with the kernel. */
  sent?(this: void, c: C, bytes: number): Result<S>;
  /** A file of `c.sendFile` is with the kernel, so many bytes of it: fewer where it ended before. */
  fileSent?(this: void, c: C, bytes: number): Result<S>;
  /**
   * Most of what `c.send` was given is with the kernel: follows a `c.send` that returned false. What
   * the connection is sent from `received` holds back its receiving meanwhile (rule M4).
   */
  drain?(this: void, c: C): Result<S>;
  /** A number of `c.post`, `pipeline.post` or the like; always a number. */
  posted?(this: void, c: C, value: number): Result<S>;
  /**
   * The same of anything else (rule Q3): bytes, which are lent until the handler, or its promise, is
   * done, or a value. Declare the parameter as what is posted: `message(c, line: Buffer)`.
   */
  message?(this: void, c: C, message: unknown): Result<S>;
  /** The time of `c.timeout` has passed. Default: `failed` with `ETIMEDOUT`. */
  timeout?(this: void, c: C): Result<S>;
  /** The connection is closed: the last event, after which its record is released. */
  closed?(this: void, c: C): void | Promise<void> | Generator<Suspended, void, unknown>;
  /**
   * The thread that was at this connection died in the middle: what it submitted last may be lost.
   * Default: close.
   */
  abandoned?(this: void, c: C): Result<S>;
  /** An operation failed, or a handler threw. Default: close. */
  failed?(this: void, c: C, error: Error): Result<S>;
}

/** What `setup` and `teardown` of a stage are given: the same object in both. */
export interface StageContext {
  /** The stage's port, to which this thread is attached. Its handles without a key are this thread's. */
  readonly port: CompletionPort;
  /** The name of the stage. */
  readonly stage: string;
  /** Which of the stage's threads it is: 0 and up. */
  readonly thread: number;
}

/** What `defineStage` takes. */
export interface StageDefinition<
  R extends RecordFields,
  S extends string,
  L,
  N extends string = string,
> {
  /** The fields this stage uses, shared by name with the pipeline's other stages. */
  readonly record?: CheckedFields<R>;
  /**
   * Names of the stages that `c.handOff` may hand to: the compiler then knows them. A pipeline that
   * lacks one of them is refused with `ERR_UNKNOWN_STAGE`: by `new Pipeline`, or by `ready()` where
   * other threads load the stage. Default: whichever the pipeline has.
   */
  readonly stages?: readonly N[] | undefined;
  /**
   * Makes an object that lives in one thread only, for each connection that comes: `c.local`. The
   * connection then stays with that thread as long as it is at this stage.
   */
  local?(this: void, c: Connection<R, S, undefined, N>): L;
  /**
   * Opens what the handlers of one thread share, with the thread's port: a log, a file to send from.
   * Runs in each thread of the stage before it takes packets, in those that take the place of dead
   * ones as well; a promise is waited for. What it throws ends the pipeline: `ready()` rejects with
   * it, or `error` tells it.
   */
  setup?(this: void, context: StageContext): void | Promise<void>;
  /**
   * Ends what `setup` began: writes what is left, closes files. Runs in each thread when the pipeline
   * closes, after its last packet and before it leaves the port; not in a thread that dies. It has 10
   * seconds, with the rest of a `setup` that is under way. `close()` rejects with what it throws, or with `ETIMEDOUT` (whose `timeout` is true and
   * `stage` its name) where it takes longer, when all else is closed.
   */
  teardown?(this: void, context: StageContext): void | Promise<void>;
  /** The state a connection begins in. Default: the first of `states`. */
  readonly initial?: Named<S>;
  readonly states: { readonly [K in S]: Handlers<Connection<R, S, L, N>, Named<S>> };
  /** Handlers of events for the states that have none of their own. */
  readonly otherwise?: Handlers<Connection<R, S, L, N>, Named<S>>;
}

/** Tells stages from other objects; there is no such property at run time. */
export declare const stage: unique symbol;

/** A stage, checked: what a stage's module exports by default. */
export interface Stage<R extends RecordFields = RecordFields, S extends string = string> {
  readonly [stage]: true;
  readonly record: R;
  /** Names of the states, in their order. */
  readonly states: readonly S[];
}

// ---- the native stage

/** What stands before each document: its length, in bytes. */
export type FrameLength = 'u8' | 'u16be' | 'u32be' | 'u32le' | 'varint';

/** How documents are told apart: by a number in front, or by bytes behind. */
type Framing =
  | {
      /** The number in front of a document. `varint`: as in protocol buffers. */
      readonly length: FrameLength;
      readonly delimiter?: undefined;
    }
  | {
      /** The bytes behind a document, 1 to 16. */
      readonly delimiter: Data;
      readonly length?: undefined;
    };

/** What `frames` takes, beside how documents are told apart. */
export interface FramesSettings {
  /** Bytes of the longest document, a number or `'64MiB'`. Default: 64 MiB. */
  readonly maxLength?: number | string | undefined;
  /**
   * Where documents are kept until they are whole: `'memory'`, or `'file'` for those longer than
   * `memoryThreshold`, and for all when the port's memory is used up. Default: `'memory'`.
   */
  readonly spool?: 'memory' | 'file' | undefined;
  /** With `spool: 'file'`: documents up to this length stay in memory. Default: 256 KiB. */
  readonly memoryThreshold?: number | string | undefined;
  /** Directory of the files, which have no name. Default: the system's for temporary files. */
  readonly directory?: string | undefined;
  /** Milliseconds a connection may stay without beginning a document. Default, 0, Infinity: no limit. */
  readonly idleTimeout?: number | undefined;
  /**
   * Milliseconds without a byte in the middle of a document; 0, Infinity: no limit. Default: 30000.
   *
   * An answer goes out in parts of 256 KiB. A client that takes longer for one has stalled when its
   * system has taken nothing more for as long (TCP on Linux; others do not tell, and a part has to be
   * taken in this time). A document that has no memory yet may wait for it; one that has some and waits
   * for more has this time. Without a limit a client that falls silent keeps its connection, and the
   * memory of what it has begun, for as long as it likes.
   */
  readonly stallTimeout?: number | undefined;
  /**
   * Milliseconds from a document's first byte to its last; 0, Infinity: no limit. Default: 3600000.
   */
  readonly documentTimeout?: number | undefined;
  /**
   * Bytes a second that a client has to send of a document, or take of an answer, while others wait
   * for memory; measured over two seconds. One that is slower is sent away, with `timedOut`: a document
   * that has memory and does not come on, or an answer that nobody reads, does not keep the others out.
   * 0: none. Default: 8 KiB.
   */
  readonly minRate?: number | string | undefined;
  /**
   * Milliseconds that a client which is sent away has for reading why; 0: none, but for two seconds
   * behind an answer after which the connection closes; Infinity: no limit. Default: 2000.
   */
  readonly farewellTimeout?: number | undefined;
  /**
   * Bytes of documents in files at one time, as far as their lengths are announced. One beyond is
   * lost as on a disk that is full (`ENOSPC`). Default: 64 GiB.
   */
  readonly fileLimit?: number | string | undefined;
  /**
   * Documents in the next stage at one time; others wait, unreceived. Several that are handed over
   * together count as one. Default: 1024.
   */
  readonly queueLimit?: number | undefined;
  /**
   * Documents of one connection that are handed over together, with one packet, when they have come
   * together: `c.documents` has them, and one `c.reply` answers all, in order. Those behind the first
   * are in memory, and together at most 256 KiB long. 1 to 65536. Default: 1.
   */
  readonly pipelined?: number | undefined;
  /** What a client is told before it is sent away. Default: nothing. */
  readonly tooLarge?: Data | undefined;
  readonly timedOut?: Data | undefined;
  /**
   * What a client is told before it is sent away because its document could not be kept. Default: it
   * stays, and the next stage gets the failure as `document.error`.
   */
  readonly failed?: Data | undefined;
}

/** What `frames` takes. Either `length` or `delimiter` says how documents are told apart. */
export type FramesOptions = FramesSettings & Framing;

/** Tells native stages from other objects; there is no such property at run time. */
export declare const nativeStage: unique symbol;

/** A native stage: `native` of a pipeline's stage. */
export interface NativeStage {
  readonly [nativeStage]: true;
}

/** What a native stage has done so far; `queued`, `waiting`, `inFiles`: how things stand. */
export interface FramesStats {
  readonly connections: number;
  readonly documents: number;
  readonly bytes: number;
  /** Documents that went through a file. */
  readonly spooled: number;
  readonly replies: number;
  readonly timedOut: number;
  readonly tooLarge: number;
  readonly failed: number;
  /** Packets that its threads have taken. */
  readonly packets: number;
  /** Documents in the next stage now. */
  readonly queued: number;
  /** Connections with a whole document that wait for room there. */
  readonly waiting: number;
  /** Bytes of documents in files now, as far as their lengths are announced. */
  readonly inFiles: number;
}

// ---- pipelines

interface JavaScriptStageSettings {
  /** Threads that may run at one time (rule P1). Default: the number of CPUs. */
  readonly concurrency?: number | undefined;
  /** Binds thread i to the i-th CPU of the process. Default: false. */
  readonly pin?: boolean | undefined;
  /** `'affine'`: packets stay with the thread that submitted their operation. Default: `'any'`. */
  readonly dispatch?: 'any' | 'affine' | undefined;
  /** `'state'`: the packets of a batch are run grouped by state. Default: `'arrival'`. */
  readonly order?: 'arrival' | 'state' | undefined;
  /** Messages that may wait at most (rule Q2). Default: 65536. */
  readonly queueLimit?: number | undefined;
}

/** A stage that worker threads run. */
export interface ModuleStageOptions extends JavaScriptStageSettings {
  /**
   * The module that defines the stage, as a URL or an absolute path: its default export is what
   * `defineStage` returns, or a function that makes it of `data`.
   */
  readonly stage: string | URL;
  /** Worker threads; 1 to 256. Default: 5. */
  readonly threads?: number | undefined;
  /**
   * Given to the function that the module exports, `export default (data) => defineStage(…)`; copied to
   * each thread. `ERR_STAGE_MODULE` where it exports none.
   */
  readonly data?: unknown;
}

/** A stage that runs on the event loop of the calling thread. */
export interface LocalStageOptions extends JavaScriptStageSettings {
  /** The stage itself: what `defineStage` returns. */
  readonly stage: Stage;
  readonly threads: 0;
  readonly data?: undefined;
}

/** One stage of a pipeline, run by worker threads or, without any, by the calling thread. */
export type JavaScriptStageOptions = ModuleStageOptions | LocalStageOptions;

/** A stage run by C++ threads; `N`: the names of the pipeline's stages. */
export interface NativeStageOptions<N extends string = string> {
  /** What `frames` returned. */
  readonly native: NativeStage;
  /** The stage that gets the documents. */
  readonly next: N;
  /** Threads; 1 to 64. Default: 2. */
  readonly threads?: number | undefined;
  /** Threads that may run at one time (rule P1). Default: the number of CPUs. */
  readonly concurrency?: number | undefined;
  /** Binds thread i to the i-th CPU of the process. Default: false. */
  readonly pin?: boolean | undefined;
}

export type StageOptions<N extends string = string> =
  JavaScriptStageOptions | NativeStageOptions<N>;

export interface PipelineOptions {
  /** Default: io_uring where the kernel grants it, else epoll (rule P3). */
  readonly driver?: DriverName | undefined;
  /** Connections and tasks at one time; 1 to 1048575. What is beyond is refused. Default: 65536. */
  readonly maxConnections?: number | undefined;
  /** Receive buffers of each stage. */
  readonly buffers?: BufferOptions | undefined;
  /** Bytes that each stage's memory may take; its connections share them (rule M7). Default: 1 GiB. */
  readonly memoryLimit?: number | undefined;
  /**
   * So many of the last events of each connection and task are kept, for `pipeline.inspect(key)`,
   * `failed` and the inspector's page; 0 to 65535. 24 bytes for each, in memory set aside for
   * `maxConnections` of them and taken as connections come. The place of one more is needed, and the
   * number of places is a power of two: 31 or 63 waste least. `ERR_OUT_OF_RANGE` where all of it
   * would be 4 GiB or more. Default: 0, none.
   */
  readonly trace?: number | undefined;
}

/** Where a stage listens; `signal` closes the listener when it is aborted. */
export type StageListenOptions = ListenOptions;

/** A listener of a pipeline's stage. It keeps the process alive as far as its pipeline does. */
export interface StageListener extends ListenerAddress, AsyncDisposable {
  /** The address it listens on, or the path of its socket. */
  readonly address: string;
  /** Its TCP port, 0 for a path. */
  readonly port: number;
  readonly family: 'IPv4' | 'IPv6' | 'unix';
  /** Whether it accepts no more. */
  readonly closed: boolean;
  /** Accepts no more; connections that were accepted stay. The same promise each time. */
  close(): Promise<void>;
}

export interface CloseOptions {
  /**
   * Milliseconds that connections have for ending by themselves; the rest is closed then. 0: at once,
   * Infinity: as long as they take. Default: 0.
   */
  readonly grace?: number | undefined;
}

/** A summary of a histogram: microseconds. */
export interface HistogramSummary {
  readonly count: number;
  readonly min: number;
  readonly mean: number;
  readonly max: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
}

/** One stage's part of `pipeline.stats()`. Counts are since the beginning, unless said otherwise. */
export interface StageStats {
  /** Threads of its pool; those running, and waiting for packets, now. */
  readonly threads: number;
  readonly running: number;
  readonly waiting: number;
  /** Packets in its queue now. */
  readonly queueDepth: number;
  /** Connections and tasks at the stage now. */
  readonly connections: number;
  /** The same, by state; under the empty name those that no thread has begun. */
  readonly states: Readonly<Record<string, number>>;
  readonly packets: number;
  /** Connections that came; and of those the ones that brought a document of a native stage. */
  readonly arrived: number;
  readonly documents: number;
  /** Connections that went on to another stage, or ended here. */
  readonly handedOff: number;
  readonly closed: number;
  /** Handlers that threw, operations that failed. */
  readonly failures: number;
  /** Threads that died and were replaced. */
  readonly restarts: number;
  /** Connections closed at once because there were too many. */
  readonly refused: number;
  /** Microseconds that packets waited. */
  readonly queueing: HistogramSummary;
  /** Microseconds that handlers took. */
  readonly handling: HistogramSummary;
  readonly port: PortStats;
  /** Of a native stage: what it has done. */
  readonly frames: FramesStats | undefined;
}

export interface PipelineStats<N extends string = string> {
  readonly stages: Readonly<Record<N, StageStats>>;
  /** Connections and tasks now. */
  readonly connections: number;
  readonly refused: number;
  readonly restarts: number;
}

/** Which connections are asked for. */
export interface ConnectionsOptions<N extends string = string, S extends string = string> {
  /** Those at this stage. Default: at any. */
  readonly stage?: N | undefined;
  /**
   * Those in this state; `''`: those that no thread has begun. `ERR_UNKNOWN_STATE` for one that no
   * stage, or not `stage`, has. Default: in any.
   */
  readonly state?: S | '' | undefined;
  /** So many at most. Default: all. */
  readonly limit?: number | undefined;
}

/** One connection, or task. */
export interface ConnectionInfo {
  readonly key: number;
  readonly stage: string;
  /** Its state; empty while the stage has not begun it. */
  readonly state: string;
  /** Milliseconds it has been in that state. */
  readonly elapsed: number;
  /** `address:port` of the peer; undefined for a task. */
  readonly remote: string | undefined;
  /** Bytes of the document that it brings. */
  readonly document: number | undefined;
  /** Bytes received since it was accepted. */
  readonly received: number;
  readonly closing: boolean;
}

/** One event of a connection, or task, as a pipeline with `trace` keeps it. */
export interface TraceEntry {
  /** The stage it was at. */
  readonly stage: string;
  /** The state it was in; empty between two stages. */
  readonly state: string;
  /**
   * An event of `Handlers` by its name, when its handler was about to be called: `entered` whether
   * or not there is one, `failed` when it failed. What a handler returned: `'handOff'`, `'reply'`,
   * when it was called, or `'close'`, which may be the library's as well. A native stage tells
   * `entered`, `handedOff`, `posted`, `message`, `ended`, `timeout`, `failed`, `closed`, `handOff`, and `sent`
   * for a whole answer.
   */
  readonly event: string;
  /** Which of the stage's threads: 0 and up. */
  readonly thread: number;
  /** Milliseconds since 1970, with fractions. */
  readonly time: number;
  /**
   * Bytes that were received or sent; of the document with `handedOff` and `handOff`, of the answer
   * with `reply`; else 0.
   */
  readonly bytes: number;
}

/** What `pipeline.inspect(key)` tells of one connection, or task. */
export interface ConnectionDetails extends ConnectionInfo {
  /** Whether it has ended: then its trace is all that is left, `stage` and `state` are its last. */
  readonly closed: boolean;
  /** Its last events, the oldest first; empty unless the pipeline has `trace`. */
  readonly trace: readonly TraceEntry[];
}

/** A thread of a pool died and is replaced. */
export interface ThreadExit {
  readonly stage: string;
  readonly index: number;
  readonly error: Error;
}

/** What is published on the channel `completion-port:stage:failed`, and emitted as `failed`. */
export interface StageFailure {
  readonly stage: string;
  readonly state: string;
  readonly key: number;
  /** The event whose handler threw, or the operation that failed. */
  readonly event: string;
  readonly error: Error;
  /** Its last events up to this failure, the oldest first; undefined unless the pipeline has `trace`. */
  readonly trace: readonly TraceEntry[] | undefined;
}

/**
 * What the channels of `node:diagnostics_channel` that stages have are given, by their names:
 * docs/guides/observability.md says when. `stage:listen` is a tracing channel.
 */
export interface StageChannelMessages {
  'completion-port:stage:listen': {
    readonly pipeline: Pipeline;
    readonly stage: string;
    readonly options: StageListenOptions;
    result?: StageListener;
    error?: unknown;
  };
  'completion-port:stage:failed': StageFailure;
  'completion-port:connection:arrived': {
    readonly stage: string;
    readonly key: number;
    /** The stage it came from, or empty. */
    readonly from: string;
  };
  'completion-port:connection:handedOff': {
    readonly stage: string;
    readonly key: number;
    readonly to: string;
  };
  'completion-port:connection:closed': { readonly stage: string; readonly key: number };
  'completion-port:connection:refused': {
    readonly pipeline: Pipeline;
    readonly stage: string;
    /** How many since the last message. */
    readonly count: number;
  };
}

/** What `pipeline.inspector()` takes. */
export interface InspectorOptions {
  /** TCP port; 0: any that is free. Default: 0. */
  readonly port?: number | undefined;
  /** An address of this machine's own: `'127.0.0.1'` or `'::1'`. Default: `'127.0.0.1'`. */
  readonly host?: '127.0.0.1' | '::1' | undefined;
  /** Milliseconds between two samples; 100 to 60000. Default: 1000. */
  readonly interval?: number | undefined;
  /** Ends setting up when it is aborted, and from then on closes the inspector. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds for setting up. Default, 0, Infinity: no limit. */
  readonly timeout?: number | undefined;
}

/**
 * The web server of one pipeline: `await pipeline.inspector({ port })`. It does not keep the process
 * alive, and neither do those who look on.
 */
export interface Inspector extends AsyncDisposable {
  /** Where the page is: `http://127.0.0.1:8081/`. */
  readonly url: string;
  /** The TCP port. */
  readonly port: number;
  /** Whether it has ended, or is about to. */
  readonly closed: boolean;
  /** Ends it: pages lose their connection. The same promise each time. */
  close(): Promise<void>;
}

/** What a pipeline emits. */
export interface PipelineEvents {
  threadExit: [exit: ThreadExit];
  failed: [failure: StageFailure];
  error: [error: Error];
  close: [];
}

/**
 * Stages, each a small state machine run by a pool of threads on a port of its own, and connections
 * that are handed from one to the next with their record. `N`: the names of the stages; `S`: of their
 * states, where all of them run on the event loop of this thread, since those in modules are unknown.
 *
 * ```ts
 * const pipeline = new Pipeline({
 *   greet: { stage: new URL('./greet.stage.js', import.meta.url), threads: 2 },
 *   work: { stage: new URL('./work.stage.js', import.meta.url) },
 * });
 * const { port } = await pipeline.listen('greet', { port: 8080 });
 * ```
 *
 * Emits `threadExit`, `failed` (for each failure of a connection; bounded, `stats()` counts all),
 * `close`, and `error` when it can't go on: it then closes itself.
 */
export interface Pipeline<N extends string = string, S extends string = string>
  extends EventEmitter<PipelineEvents>, AsyncDisposable {
  /**
   * Resolves when all threads take packets; rejects with the first failure to load a stage. `signal`
   * and `timeout` end the waiting alone. `ERR_PIPELINE_CLOSED` when it is closed.
   */
  ready(options?: AwaitOptions): Promise<void>;
  /** Lets the pipeline keep the process alive, which is the default. */
  ref(): this;
  /**
   * Lets the process end although the pipeline runs: its threads end with it, and whatever it is about.
   * `close()` keeps the process alive until it is done.
   */
  unref(): this;
  /** Whether it keeps the process alive; one that is closed does not. */
  hasRef(): boolean;
  /** For `JSON.stringify`, as text for people and logs: what `util.inspect` shows. Never throws. */
  toJSON(): object;
  /** Names of the stages. */
  readonly stages: readonly N[];
  /** What carries operations out here. */
  readonly driver: DriverName;
  /** Whether it is closed, or about to be. */
  readonly closed: boolean;
  /**
   * Has a stage accept TCP connections: resolves to the listener, with its address. Rejects as
   * `port.listen` does (`EADDRINUSE`, …). `signal` closes the listener when it is aborted; `timeout`
   * is for setting up, the time until the stages are ready among it. `ENOTSUP` for sockets that keep
   * the borders of messages, and for an `fd` where the stage is a native one.
   */
  listen(stage: N, options: StageListenOptions): Promise<StageListener>;
  /**
   * Starts a task: something with a record and a state, but no socket. Its first events are
   * `entered`, and `posted` or `message` with what is given here. Its key;
   * `ERR_CONNECTION_LIMIT` when there are `maxConnections` already, `ERR_QUEUE_FULL` when the stage's
   * queue is. It has no twin that answers false for both, since what to do about them differs.
   *
   * This, `post` and `publish`, and their twins, are for a pipeline that is ready (`ready()`, `listen`):
   * before that they throw `ERR_INVALID_STATE`, from `close()` on `ERR_PIPELINE_CLOSED`.
   */
  start(stage: N, message: Message): number;
  /** The same with a 0. */
  start(stage: N): number;
  /**
   * A `posted` event for a connection, wherever it is; `message`, where it is no number.
   * `ERR_CONNECTION_GONE` when there is none of that key. Else throws as `port.post` does.
   */
  post(key: number, message: Message): void;
  /** The same of a 0. */
  post(key: number): void;
  /** The same as `post`; false when the queue is full or the connection is gone. */
  tryPost(key: number, message: Message): boolean;
  /** The same of a 0. */
  tryPost(key: number): boolean;
  /** As `c.publish`: one message for many connections. */
  publish(keys: Uint32Array | readonly number[], message: Message): number;
  /** As `c.tryPublish`. */
  tryPublish(keys: Uint32Array | readonly number[], message: Message): boolean;
  /** What each stage has done, and is at. */
  stats(): PipelineStats<N>;
  /**
   * Connections and tasks: where each is, and for how long. All of them, or those at `stage`, in
   * `state`, at most `limit`.
   */
  connections(options?: ConnectionsOptions<N, S>): ConnectionInfo[];
  /**
   * One connection, or task: where it is, and its last events where the pipeline has `trace`. It may
   * go on meanwhile; each event that is told is whole. One that has ended is told of, where there is
   * a trace, until its record is another one's, which comes late. Else undefined.
   */
  inspect(key: number): ConnectionDetails | undefined;
  /**
   * Shows all of it in a browser: a web server on loopback, until it, or the pipeline, is closed.
   * Rejects as `net.Server` emits (`EADDRINUSE`, …).
   */
  inspector(options?: InspectorOptions): Promise<Inspector>;
  /**
   * Stops listening, waits `grace` milliseconds for the connections to end, closes the others (their
   * `closed` handlers run), ends the threads and frees everything. The same promise each time.
   *
   * A native stage begins no new document: connections between documents end at once, the others
   * when their document is answered.
   */
  close(options?: CloseOptions): Promise<void>;
  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** Stages by their names, as far as that can be said without knowing the others. */
type AnyStages = Readonly<Record<string, AnyStage>>;

/** `threads` and `next` of an object that was written elsewhere are any number and any string. */
type AnyStage =
  | (Omit<ModuleStageOptions, 'stage'> & { readonly stage: string | URL | Stage })
  | NativeStageOptions;

/** In place of the type of what is wrong: an error names it. */
interface Wrong<Text extends string, Known = never> {
  readonly wrong: Text;
  readonly known: Known;
}

/** What else has to be so. */
type CheckedStages<T> = { readonly [K in keyof T]: CheckedStage<T[K], keyof T> };

type CheckedStage<O, N> = KnownNames<O> &
  (O extends { readonly native: NativeStage; readonly next: infer Next }
    ? NextStage<Next, N>
    : O extends { readonly stage: Stage }
      ? LocalThreads<O> & { readonly data?: undefined }
      : O extends { readonly threads: 0 }
        ? { readonly threads: Wrong<'0 is for a stage itself, not for the module of one'> }
        : unknown);

type NextStage<Next, N> = string extends Next
  ? unknown
  : Next extends N
    ? unknown
    : { readonly next: Wrong<'there is no such stage', N> };

type LocalThreads<O> = O extends { readonly threads: infer Threads }
  ? number extends Threads
    ? unknown
    : Threads extends 0
      ? unknown
      : { readonly threads: Wrong<'0: a stage itself runs here'> }
  : { readonly threads: 0 };

type KnownNames<O> = {
  readonly [
    P in Exclude<
      keyof O,
      O extends { readonly native: unknown } ? keyof NativeStageOptions : keyof ModuleStageOptions
    >
  ]: Wrong<'there is no such option of a stage'>;
};

/** Of stages whose states the compiler knows; else any. */
type StatesOf<T> = {
  [K in keyof T]: T[K] extends { readonly stage: Stage<RecordFields, infer S> } ? S : string;
}[keyof T];

/** The class. */
export interface PipelineConstructor {
  readonly prototype: Pipeline;
  new <const T extends AnyStages>(
    stages: T & CheckedStages<T>,
    options?: PipelineOptions,
  ): Pipeline<keyof T & string, StatesOf<T>>;
}
