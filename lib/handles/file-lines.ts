/**
 * Reading a file line by line: `file.readLines()`.
 */
import { inspect } from 'node:util';
import type { StringDecoder } from 'node:string_decoder';
import type { AsyncLoop, ReadLinesOptions } from '../api';
import { FileChunks, type ReadFrom } from './file-chunks';
import { coded, invalidState } from '../support/errors';
import { AWAIT_OPTIONS } from '../await/operation';
import * as validate from '../support/validate';

type Result = IteratorResult<string, undefined>;

const LINE_OPTIONS = ['encoding', 'position', 'length', 'maxLength', ...AWAIT_OPTIONS];
const DEFAULT_MAX_LENGTH = 2 ** 24;
/** What the longest string has in every Node.js that is supported. */
const GREATEST_MAX_LENGTH = 2 ** 29 - 24;

/** Text without \r is cut without a regular expression. */
const LINE_ENDS = /\r\n|[\n\r]/;

/** Lines are cut a chunk at a time, and given one by one. */
export class FileLines implements AsyncLoop<string> {
  private readonly chunks: FileChunks;
  private readonly file: ReadFrom;
  private readonly signal: AbortSignal | undefined;
  private readonly maxLength: number;
  private readonly decoder: StringDecoder;
  private lines: string[] = [];
  /** The next of them. */
  private at = 0;
  /** The beginning of a line whose end was not read yet. */
  private rest = '';
  /** The last text ended with \r: a \n that follows belongs to it. */
  private afterReturn = false;
  /** What the loop throws after the lines that are there. */
  private failure: Error | undefined = undefined;
  private asking = false;
  private over = false;

  constructor(file: ReadFrom, options: ReadLinesOptions = {}) {
    validate.options(options);
    validate.known(options, 'options', LINE_OPTIONS);
    const { position = file.position, length, signal, timeout } = options;
    const maxLength = options.maxLength ?? DEFAULT_MAX_LENGTH;
    this.maxLength = validate.bound(maxLength, 'options.maxLength', 1, GREATEST_MAX_LENGTH);
    const encoding = validate.encoding(options.encoding ?? 'utf8', 'options.encoding');
    this.chunks = new FileChunks(file, { position, length, signal, timeout, lend: true });
    this.file = file;
    this.signal = signal;
    // Few programs need it: loaded with the first.
    const { StringDecoder: Decoder } = process.getBuiltinModule('node:string_decoder');
    this.decoder = new Decoder(encoding);
  }

  next(): Promise<Result> {
    const line = this.take();
    if (line !== undefined) return Promise.resolve({ done: false, value: line });
    if (this.asking) {
      return Promise.reject(invalidState('next() was called before the last one had answered'));
    }
    return this.more();
  }

  async return(): Promise<Result> {
    this.over = true;
    this.lines = [];
    await this.chunks.return();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  [inspect.custom](): string {
    return `AsyncLoop { lines, ${this.over ? 'ended' : 'open'} }`;
  }

  toJSON(): object {
    return { loop: 'lines', state: this.over ? 'ended' : 'open' };
  }

  /** A line that was cut already, unless the loop is to end now. */
  private take(): string | undefined {
    if (this.at >= this.lines.length || this.signal?.aborted) return undefined;
    return this.lines[this.at++];
  }

  private async more(): Promise<Result> {
    this.asking = true;
    try {
      for (;;) {
        const line = this.take();
        if (line !== undefined) return { done: false, value: line };
        if (this.failure !== undefined) await this.fail();
        if (this.over) return { done: true, value: undefined };
        const { done, value } = await this.chunks.next();
        if (!done) this.cut(this.decoder.write(value));
        else this.end();
      }
    } catch (error) {
      this.over = true;
      this.lines = [];
      throw error;
    } finally {
      this.asking = false;
    }
  }

  private cut(text: string): void {
    if (text === '' || this.over) return;
    const whole = this.afterReturn && text.startsWith('\n') ? text.slice(1) : text;
    this.afterReturn = text.endsWith('\r');
    const lines = whole.split(whole.includes('\r') ? LINE_ENDS : '\n');
    lines[0] = this.rest + lines[0]!;
    this.lines = lines;
    this.at = 0;
    if (this.rest.length + whole.length > this.maxLength) this.bound(lines);
    this.rest = lines.pop() ?? '';
  }

  /** Leaves out a line that is too long, and what follows it. */
  private bound(lines: string[]): void {
    const long = lines.findIndex((line) => line.length > this.maxLength);
    if (long < 0) return;
    this.failure = lineTooLong(this.maxLength);
    lines.length = long;
    lines.push('');
  }

  /** The file has been read, or closed by this program: then what began is no line. */
  private end(): void {
    if (!this.over && !this.file.closed) {
      this.cut(this.decoder.end());
      if (this.rest !== '') this.lines.push(this.rest);
    }
    this.over = true;
  }

  private async fail(): Promise<never> {
    const { failure } = this;
    this.failure = undefined;
    await this.return();
    throw failure!;
  }
}

function lineTooLong(maxLength: number): Error {
  const message = `A line is longer than maxLength, ${maxLength} characters`;
  return coded(new Error(message), 'ERR_LINE_TOO_LONG');
}
