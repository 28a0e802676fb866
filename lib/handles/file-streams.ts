/**
 * Files as streams of Node.js, made of reads and writes that are awaited. node:stream is loaded with
 * the first.
 */
import type * as stream from 'node:stream';
import type * as web from 'node:stream/web';
import type * as api from '../api';
import * as validate from '../support/validate';

/** As fs.createReadStream has it. */
const READ_SIZE = 64 * 1024;
const WRITE_MARK = 16 * 1024;
const COMMON = ['start', 'highWaterMark', 'autoClose', 'emitClose', 'signal', 'encoding'];
const READABLE_OPTIONS = [...COMMON, 'end'];
const WRITABLE_OPTIONS = [...COMMON, 'flush'];

/** The file that it is a stream of: lib/handles/file.ts. */
interface AwaitedFile extends Pick<
  api.FileHandle,
  'chunks' | 'write' | 'sync' | 'close' | 'closed'
> {
  read(options: api.OwnedReadOptions): api.Operation<Buffer>;
  /** Whether it has no positions. */
  readonly isStream: boolean;
  readonly thread: { readonly closed: boolean };
}
type Done = (error?: Error | null) => void;

interface Settings {
  readonly start: number | undefined;
  readonly autoClose: boolean;
  readonly stream: {
    readonly highWaterMark: number;
    readonly emitClose: boolean;
    readonly signal?: AbortSignal;
  };
}

function settingsOf(options: api.ReadableOptions | api.WritableOptions, mark: number): Settings {
  const { start, highWaterMark = mark, autoClose = true, emitClose = true } = options;
  const signal = validate.signal(options.signal);
  const most = Number.MAX_SAFE_INTEGER;
  if (start !== undefined) validate.integer(start, 'options.start', 0, most);
  validate.integer(highWaterMark, 'options.highWaterMark', 1, 2 ** 30);
  validate.boolean(autoClose, 'options.autoClose');
  validate.boolean(emitClose, 'options.emitClose');
  const { encoding } = options;
  if (encoding !== undefined && encoding !== null) validate.encoding(encoding, 'options.encoding');
  const common = { highWaterMark, emitClose };
  return { start, autoClose, stream: signal === undefined ? common : { ...common, signal } };
}

/** Gives the file back, where the stream was to do so. */
function over(file: AwaitedFile, closes: boolean, error: Error | null, done: Done): void {
  if (!closes || file.closed || file.thread.closed) return done(error);
  file.close().then(
    () => done(error),
    (failure: Error) => done(error ?? failure),
  );
}

export function readable(file: AwaitedFile, options: api.ReadableOptions = {}): stream.Readable {
  validate.options(options);
  validate.known(options, 'options', READABLE_OPTIONS);
  const { start, autoClose, stream } = settingsOf(options, READ_SIZE);
  const { end = Infinity, encoding } = options;
  if (end !== Infinity) {
    validate.integer(end, 'options.end', 0, Number.MAX_SAFE_INTEGER);
    if (end < (start ?? 0)) throw validate.outOfRange('options.end', `>= ${start ?? 0}`, end);
  }
  const chunks = pieces(file, start, end, stream.highWaterMark);
  const { Readable } = process.getBuiltinModule('node:stream');
  return new Readable({
    ...stream,
    ...(encoding ? { encoding } : {}),
    read() {
      chunks.next().then(
        (bytes) => this.push(bytes ?? null),
        (error: Error) => this.destroy(error),
      );
    },
    destroy(error, done) {
      chunks.end().then(
        () => over(file, autoClose, error, done),
        () => over(file, autoClose, error, done),
      );
    },
  });
}

interface Pieces {
  /** Undefined at the end. */
  next(): Promise<Buffer | undefined>;
  end(): Promise<unknown>;
}

/** From a place on several reads are in flight at a time; from the file's own place one is. */
function pieces(file: AwaitedFile, start: number | undefined, end: number, size: number): Pieces {
  if (start === undefined || file.isStream) return onward(file, end + 1, size);
  const length = end === Infinity ? undefined : end - start + 1;
  const loop = file.chunks({ position: start, size, length });
  return {
    next: async () => (await loop.next()).value,
    end: () => loop.return(),
  };
}

function onward(file: AwaitedFile, most: number, size: number): Pieces {
  let left = most;
  return {
    async next() {
      const length = Math.min(size, left);
      if (length === 0) return undefined;
      const bytes = await file.read({ length });
      left -= bytes.length;
      return bytes.length === 0 ? undefined : bytes;
    },
    end: () => Promise.resolve(),
  };
}

export function writable(file: AwaitedFile, options: api.WritableOptions = {}): stream.Writable {
  validate.options(options);
  validate.known(options, 'options', WRITABLE_OPTIONS);
  const { start, autoClose, stream } = settingsOf(options, WRITE_MARK);
  const { encoding, flush = false } = options;
  validate.boolean(flush, 'options.flush');
  let position = start;
  const write = (data: readonly Buffer[], done: Done): void => {
    const at = position;
    const bytes = data.reduce((sum, one) => sum + one.length, 0);
    if (position !== undefined) position += bytes;
    file.write(data, at === undefined ? {} : { position: at }).then(
      () => done(),
      (error: Error) => done(error),
    );
  };
  const { Writable } = process.getBuiltinModule('node:stream');
  return new Writable({
    ...stream,
    ...(encoding ? { defaultEncoding: encoding } : {}),
    write: (chunk: Buffer, _encoding, done) => write([chunk], done),
    writev: (all, done) =>
      write(
        all.map(({ chunk }) => chunk as Buffer),
        done,
      ),
    final(done) {
      if (!flush) return done();
      file.sync().then(
        () => done(),
        (error: Error) => done(error),
      );
    },
    destroy: (error, done) => over(file, autoClose, error, done),
  });
}

/** As FileHandle's readableWebStream: from where the file's last read ended. */
export function webReadable(
  file: AwaitedFile,
  options: api.ReadableWebStreamOptions = {},
): web.ReadableStream<Uint8Array> {
  validate.options(options);
  validate.known(options, 'options', ['autoClose']);
  const autoClose = validate.boolean(options.autoClose ?? false, 'options.autoClose');
  const { ReadableStream } = process.getBuiltinModule('node:stream/web');
  const close = async (): Promise<void> => {
    if (autoClose && !file.closed) await file.close();
  };
  const source: web.UnderlyingByteSource = {
    type: 'bytes',
    async pull(controller) {
      const bytes = await file.read({ length: READ_SIZE });
      if (bytes.length > 0)
        return controller.enqueue(new Uint8Array(bytes.buffer, 0, bytes.length));
      await close();
      controller.close();
      controller.byobRequest?.respond(0);
    },
    cancel: close,
  };
  return new ReadableStream(source);
}
