/**
 * Files read, and written, in one piece: `file.readFile()`, `file.writeFile()`.
 */
import type { Data, FileContents, FileStatus, ReadFileOptions, WriteFileOptions } from '../api';
import { Kind } from '../native/kinds';
import type { Handle } from './handle';
import { AWAIT_OPTIONS, ComposedOperation, type Operation, type Steps } from '../await/operation';
import { cancelled } from '../support/errors';
import * as validate from '../support/validate';

/** The file: lib/handles/file.ts. */
type AwaitedFile = Handle<'await'> & {
  /** Where its next read or write without a position begins. */
  readonly position: number;
  stat(): Operation<FileStatus>;
  read(buffer: Buffer): Operation<number>;
  write(data: Data): Operation<number>;
  sync(): Operation<void>;
};

/** Bytes of one read, as node:fs reads. */
const PIECE = 512 * 1024;
const SMALLEST = 4096;

export function readFile(
  file: AwaitedFile,
  given: ReadFileOptions | BufferEncoding | null = {},
): Operation<Buffer | string> {
  const options = withEncoding(given, [...AWAIT_OPTIONS]);
  const { encoding } = options;
  const run = async (whole: Steps): Promise<Buffer | string> => {
    const bytes = await readToEnd(file, stepsOf(file, whole, 'read'));
    return encoding === undefined ? bytes : bytes.toString(encoding);
  };
  return new ComposedOperation(file.thread, Kind.Read, 'read', options, run, nothing);
}

export function writeFile(
  file: AwaitedFile,
  data: FileContents,
  given: WriteFileOptions | BufferEncoding | null = {},
): Operation<void> {
  const options = withEncoding(given, ['flush', ...AWAIT_OPTIONS]);
  const flush = validate.boolean((options as WriteFileOptions).flush ?? false, 'options.flush');
  const { encoding = 'utf8' } = options;
  const single = typeof data === 'string' || ArrayBuffer.isView(data);
  if (!single && !isIterable(data)) {
    const kinds = 'of type string or an instance of Buffer, TypedArray, DataView, or an iterable';
    throw validate.invalidType('data', kinds, data);
  }
  const run = async (whole: Steps): Promise<void> => {
    const steps = stepsOf(file, whole, 'write');
    for await (const part of single ? [data] : data) {
      if (steps.stopped) return;
      validate.data(part, 'data');
      await steps.next(() =>
        file.write(typeof part === 'string' ? Buffer.from(part, encoding) : part),
      );
    }
    if (flush && !steps.stopped) await steps.next(() => file.sync());
  };
  return new ComposedOperation(file.thread, Kind.Write, 'write', options, run, nothing);
}

interface FileSteps {
  readonly stopped: boolean;
  next<U>(begin: () => Operation<U>): Promise<U>;
}

/**
 * The steps of one call. A file closed between two of them ends the call as one closed in the middle
 * of a step does: cancelled (rule O5), since it was open when it was asked.
 */
function stepsOf(file: AwaitedFile, steps: Steps, syscall: string): FileSteps {
  const subject = file.subject();
  steps.subject = subject;
  const wasOpen = !file.closed;
  return {
    get stopped() {
      return steps.stopped;
    },
    next: async (begin) => {
      if (wasOpen && file.closed) throw cancelled(syscall, subject);
      return steps.step(begin());
    },
  };
}

/** What there is from where the file's reads go on. */
async function readToEnd(file: AwaitedFile, steps: FileSteps): Promise<Buffer> {
  // A device or a FIFO has no size, and files of /proc say that they have none.
  const { size } = await steps.next(() => file.stat());
  const expected = Math.max(0, size - file.position);
  const parts: Buffer[] = [];
  for (let length = 0; ;) {
    const wanted = Math.max(expected - length, length, SMALLEST);
    const piece = Buffer.allocUnsafeSlow(Math.min(PIECE, wanted));
    const bytes = await steps.next(() => file.read(piece));
    if (bytes === 0) return parts.length === 1 ? parts[0]! : Buffer.concat(parts, length);
    parts.push(piece.subarray(0, bytes));
    length += bytes;
  }
}

function withEncoding<O extends { readonly encoding?: BufferEncoding | null | undefined }>(
  given: O | BufferEncoding | null,
  names: readonly string[],
): Omit<O, 'encoding'> & { readonly encoding: BufferEncoding | undefined } {
  const options = (typeof given === 'string' ? { encoding: given } : (given ?? {})) as O;
  validate.options(options);
  validate.known(options, 'options', ['encoding', ...names]);
  const encoding = options.encoding ?? undefined;
  if (encoding !== undefined) validate.encoding(encoding, 'options.encoding');
  return { ...options, encoding };
}

function isIterable(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return Symbol.iterator in value || Symbol.asyncIterator in value;
}

function nothing(): void {
  // A result that came too late needs no care.
}
