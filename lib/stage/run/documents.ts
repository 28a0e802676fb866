/**
 * Documents that a native stage brings, and the answers it takes back.
 */
import { inspect } from 'node:util';
import { handleAt, LibraryError, NO_CHUNK } from '../../native/layout';
import {
  abortError,
  invalidState,
  outOfBuffers,
  systemError,
  type CodedError,
} from '../../support/errors';
import type { AsyncLoop, AwaitOptions, FileChunkOptions } from '../../api';
import { File } from '../../handles/file';
import { checkedChunkOptions, type ChunkSettings } from '../../handles/file-chunks';
import { reopen } from '../../handles/opening';
import { AWAIT_OPTIONS, type Operation } from '../../await/operation';
import { asBytes, type Block, type Data } from '../../thread/memory';
import { monotonic } from '../../support/clock';
import * as validate from '../../support/validate';
import type * as api from '../api';
import type { Reply, ReplyOptions } from '../api';
import { Header, RecordFlag } from '../record/record';
import { Step } from '../definition/events';
import type { StageInfo } from '../definition/plan';
import type { StageThread } from './thread';

/** The connection whose document it is: lib/stage/run/connection.ts. */
interface Owner {
  readonly thread: StageThread;
  readonly recordKey: number;
  /** Where its record begins. */
  readonly at: number;
  /** The state it is in. */
  readonly now: { readonly index: number };
  /** Its record's flags. */
  readonly flags: number;
  /** Its key; throws where the object stands for none. */
  readonly key: number;
  /** The document's memory, where a handler has seen it. */
  documentBlock: Block | undefined;
}

/** The StageDocument of lib/stage/api.ts. */
export class StageDocument implements api.StageDocument {
  readonly #length: number;
  readonly #number: number;
  readonly #inFile: boolean;
  readonly #error: Error | undefined;
  readonly #chunk: number;
  readonly #start: number;
  /** Where it, or the first of those that came together, begins, and how long they all are. */
  readonly #block: number;
  readonly #blockLength: number;
  readonly #file: number;
  readonly #connection: Owner;

  /** `parts`: start and length of those that came together; `index`: of this one among them. */
  private constructor(c: Owner, flags: number, parts?: Uint32Array, index = 0) {
    const { words, numbers } = c.thread.records;
    this.#connection = c;
    this.#inFile = (flags & RecordFlag.DocumentInFile) !== 0;
    this.#length = numbers[(c.at + Header.DOCUMENT_LENGTH) >>> 3]!;
    this.#number = words[(c.at + Header.NUMBER) >>> 2]!;
    this.#chunk = words[(c.at + Header.DOCUMENT_CHUNK) >>> 2]!;
    this.#start = words[(c.at + Header.DOCUMENT_START) >>> 2]!;
    this.#file = handleAt(words, (c.at + Header.DOCUMENT_CHUNK) >>> 2);
    const lost = !this.#inFile && this.#chunk === NO_CHUNK && this.#start !== 0;
    this.#error = lost ? systemError(-this.#start, 'write', {}) : undefined;
    this.#block = this.#start;
    this.#blockLength = this.#length;
    if (parts === undefined) return;
    const last = parts.length - 2;
    this.#number -= last / 2 - index;
    this.#start += parts[2 * index]!;
    this.#length = parts[2 * index + 1]!;
    this.#blockLength = parts[last]! + parts[last + 1]!;
  }

  /** @internal The first one. */
  static of(c: Owner): StageDocument | undefined {
    const { flags } = c;
    if ((flags & RecordFlag.HasDocument) === 0) return undefined;
    return new StageDocument(c, flags, partsOfDocument(c));
  }

  /** @internal The same, whatever came with it. */
  static first(c: Owner): StageDocument | undefined {
    const { flags } = c;
    return (flags & RecordFlag.HasDocument) === 0 ? undefined : new StageDocument(c, flags);
  }

  /** @internal All that came together. */
  static all(c: Owner): StageDocument[] {
    const { flags } = c;
    if ((flags & RecordFlag.HasDocument) === 0) return [];
    const parts = partsOfDocument(c);
    return Array.from(
      { length: parts === undefined ? 1 : parts.length / 2 },
      (_, index) => new StageDocument(c, flags, parts, index),
    );
  }

  get length(): number {
    this.atHand();
    return this.#length;
  }

  get number(): number {
    this.atHand();
    return this.#number;
  }

  get inFile(): boolean {
    this.atHand();
    return this.#inFile;
  }

  get error(): Error | undefined {
    this.atHand();
    return this.#error;
  }

  get bytes(): Buffer | undefined {
    this.check();
    if (this.#inFile) return undefined;
    if (this.#length === 0) return Buffer.alloc(0);
    const offset = this.#start - this.#block;
    return this.lend().bytes.subarray(offset, offset + this.#length);
  }

  /** Its own, and a function: so a document can't be posted, which would arrive as nothing. */
  readonly toJSON = toJSON;

  /** @internal Of what it was when it came: never throws. */
  shown(): object {
    const [length, number, inFile] = [this.#length, this.#number, this.#inFile];
    return { length, number, inFile, error: this.#error && (this.#error as CodedError).code };
  }

  [inspect.custom](_depth: number, options: object, show: typeof inspect): string {
    return `StageDocument ${show(this.shown(), options)}`;
  }

  open(options: AwaitOptions = {}): Operation<File<'await'>> {
    validate.options(options);
    validate.known(options, 'options', AWAIT_OPTIONS);
    validate.timeout(options.timeout);
    const signal = validate.signal(options.signal);
    this.check();
    const { portThread, native } = this.#connection.thread;
    const open = this.#inFile && native.handleInfo(this.#file) !== undefined;
    if (!open) throw fileGone();
    return reopen(portThread, this.#file, signal) as Operation<File<'await'>>;
  }

  chunks(options: FileChunkOptions = {}): AsyncLoop<Buffer> {
    const settings = checkedChunkOptions(options);
    this.check();
    const left = this.#length - settings.position;
    const length = Math.max(0, Math.min(settings.length, left));
    const pieces = this.#inFile
      ? this.piecesOfFile({ ...options, length })
      : this.piecesOfMemory({ ...settings, length }, options.signal);
    // Generators of Node.js 20 are not disposable.
    const dispose = async (): Promise<void> => void (await pieces.return(undefined));
    return Object.assign(pieces, {
      [Symbol.asyncDispose]: dispose,
    }) as unknown as AsyncLoop<Buffer>;
  }

  private async *piecesOfFile(options: FileChunkOptions): AsyncGenerator<Buffer, undefined> {
    const file = await this.open();
    try {
      yield* file.chunks(options);
    } finally {
      await file.close();
    }
    return undefined;
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- a loop like that over a file
  private async *piecesOfMemory(
    { size, position, length, lend }: ChunkSettings,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer, undefined> {
    const { memory } = this.#connection.thread.portThread;
    for (let at = position; at < position + length; at += size) {
      if (signal?.aborted) throw abortError(signal.reason);
      this.check();
      const bytes = Math.min(size, position + length - at);
      yield lend
        ? this.bytes!.subarray(at, at + bytes)
        : memory.copyOut(this.#chunk, this.#start + at, bytes);
    }
    return undefined;
  }

  /** @internal The first `length` bytes of the block. */
  together(length: number): Buffer {
    this.check();
    return this.lend(length).bytes.subarray(0, length);
  }

  /** Of documents that came together all at once. `all`: how long they are, where that is known. */
  private lend(all?: number): Block {
    const [c, chunk, block] = [this.#connection, this.#chunk, this.#block];
    const { memory } = c.thread.portThread;
    const lent = c.documentBlock;
    if (lent?.chunk === chunk && lent.start === block) return lent;
    if (lent !== undefined) memory.endLoan(lent);
    const size = all ?? c.thread.native.documentBatch(c.recordKey) % TWO_32;
    const length = Math.max(this.#blockLength, size);
    return (c.documentBlock = memory.lendFirst(chunk, block, length));
  }

  /** Throws when the handler is over. */
  private atHand(): void {
    void this.#connection.key;
  }

  /** The same, and when there are no bytes. */
  private check(): void {
    this.atHand();
    if (this.#error !== undefined) throw this.#error;
  }
}

/** One for all documents. */
function toJSON(this: StageDocument): object {
  return this.shown();
}

/** 2 to the 32nd: a number above it is beside one below. */
const TWO_32 = 0x1_0000_0000;

/**
 * Documents that came together, as one. Valid as long as their connection's handler.
 * What its public members do stands in lib/stage/api.ts.
 */
export class StageBatch implements api.StageBatch {
  readonly #connection: Owner;
  readonly #first: StageDocument;
  readonly #length: number;
  readonly #size: number;

  private constructor(c: Owner, first: StageDocument, counted: number) {
    this.#connection = c;
    this.#first = first;
    this.#length = Math.floor(counted / TWO_32);
    this.#size = counted % TWO_32;
  }

  get length(): number {
    void this.#connection.key;
    return this.#length;
  }

  toJSON(): object {
    return { length: this.#length };
  }

  [inspect.custom](): string {
    return `StageBatch { length: ${this.#length} }`;
  }

  /** @internal */
  static of(c: Owner): StageBatch | undefined {
    const first = StageDocument.first(c);
    return first && new StageBatch(c, first, c.thread.native.documentBatch(c.recordKey));
  }

  get bytes(): Buffer | undefined {
    void this.#connection.key;
    return this.#size === 0 ? undefined : this.#first.together(this.#size);
  }
}

/** Undefined where a document comes alone. */
function partsOfDocument(c: Owner): Uint32Array | undefined {
  return c.thread.pipelined ? c.thread.native.documentParts(c.recordKey) : undefined;
}

function fileGone(): Error {
  return invalidState('The document does not lie in a file');
}

/** Gives native code the answer that goes out when the connection is back; the stage that sends it. */
export function giveReply(c: Owner, reply: Reply, options: ReplyOptions = {}): StageInfo {
  validate.options(options);
  validate.known(options, 'options', ['position', 'length', 'close']);
  const closes = validate.flag(options.close, 'options.close');
  const [header, file] = partsOf(c, reply);
  const part = partOf(file, options);
  const { portThread, native } = c.thread;
  if (ArrayBuffer.isView(header)) portThread.memory.check(header);
  const bytes = header === undefined ? undefined : bytesOf(header);
  const length = bytes?.byteLength ?? 0;
  if (length > 0) {
    // A connection has one answer at a time: those of others are no reason to refuse it (rule M7).
    if (!portThread.memory.take(length, true)) throw outOfBuffers();
    portThread.memory.bytes(portThread.memory.chunk).set(bytes!, portThread.memory.start);
  }
  const chunk = length > 0 ? portThread.memory.chunk : NO_CHUNK;
  const start = length > 0 ? portThread.memory.start : 0;
  const { position, length: size } = part;
  const id = file?.id ?? 0;
  const result = native.reply(c.recordKey, chunk, start, length, id, position, size, closes);
  if (result === (LibraryError.NotSupported as number)) {
    throw invalidState('Only a connection with the document of a native stage has a reply');
  }
  if (result < 0) throw systemError(result, 'reply', {});
  file?.closeQuietly();
  if (c.thread.trace !== undefined) c.thread.note(c, Step.Reply, length + size, monotonic());
  return c.thread.stages[result]!;
}

function partsOf(c: Owner, reply: Reply): [Data | undefined, File<'await'> | undefined] {
  if (Array.isArray(reply)) {
    if (c.thread.pipelined && !reply.some((part) => part instanceof File)) {
      return [eachOf(c, reply as readonly Data[]), undefined];
    }
    const [header, file, ...more] = reply as readonly unknown[];
    if (more.length > 0)
      throw validate.invalidValue('answer', 'must be a header and a file', reply);
    validate.bytes(header, 'answer');
    return [header as Data, checkFile(file)];
  }
  if (reply instanceof File) return [undefined, checkFile(reply)];
  validate.bytes(reply, 'answer');
  return [reply as Data, undefined];
}

/** The answers to documents that came together, in their order. */
function eachOf(c: Owner, answers: readonly Data[]): Uint8Array {
  const wanted = (partsOfDocument(c)?.length ?? 2) / 2;
  if (answers.length !== wanted) {
    throw validate.invalidValue('answer', `must have one part for each of ${wanted}`, answers);
  }
  const { memory } = c.thread.portThread;
  for (const answer of answers) {
    validate.bytes(answer, 'answer');
    if (ArrayBuffer.isView(answer)) memory.check(answer);
  }
  return Buffer.concat(answers.map(bytesOf));
}

function checkFile(file: unknown): File<'await'> {
  if (!(file instanceof File)) throw validate.invalidType('answer', 'an open File', file);
  file.assertOpen();
  return file as File<'await'>;
}

function bytesOf(data: Data): Uint8Array {
  return typeof data === 'string' ? Buffer.from(data) : asBytes(data);
}

/** The part of the file that is sent: all of it, unless the program says otherwise. */
function partOf(
  file: File<'await'> | undefined,
  { position, length }: ReplyOptions,
): { readonly position: number; readonly length: number } {
  if (file === undefined) {
    if (position === undefined && length === undefined) return { position: 0, length: 0 };
    throw validate.invalidValue('options', 'have a position or a length only with a file', {
      position,
      length,
    });
  }
  const size = sizeOf(file);
  const from = validate.integer(position ?? 0, 'options.position', 0, size);
  return {
    position: from,
    length: validate.integer(length ?? size - from, 'options.length', 0, size - from),
  };
}

function sizeOf(file: File<'await'>): number {
  const size = file.thread.native.fileSize(file.id);
  if (size === (LibraryError.HandleClosed as number)) throw invalidState('The file is closed');
  if (size < 0) throw validate.invalidValue('answer', 'must be a regular file', file);
  return size;
}
