/**
 * Errors in the shape Node.js gives its own: `code`, `errno`, `syscall`, and what was concerned.
 */
import { LibraryError } from '../native/layout';
import { type Kind, syscallOf } from '../native/kinds';
import { describe, ECANCELED, ETIMEDOUT } from './errno';

/** What an operation was about, for the text and the properties of its error. */
export interface Subject {
  /** A file: the message reads as those of node:fs do. */
  readonly path?: string | undefined;
  /** A stream: the message reads as those of node:net do. */
  readonly address?: string | undefined;
  readonly port?: number | undefined;
  readonly net?: boolean | undefined;
}

export type CodedError = Error & { code: string };

const LARGEST_LIBRARY_ERROR: number = LibraryError.HandleClosed;

export function coded<E extends Error>(error: E, code: string): E & { code: string } {
  return Object.assign(error, { code });
}

const library: Record<number, [code: string, message: string]> = {
  [LibraryError.HandleClosed]: ['ERR_HANDLE_CLOSED', 'The handle is closed'],
  [LibraryError.PortClosed]: ['ERR_PORT_CLOSED', 'The completion port is closed'],
  [LibraryError.QueueFull]: ['ERR_QUEUE_FULL', 'The queue of the completion port is full'],
  [LibraryError.AlreadyAssociated]: [
    'ERR_ALREADY_ASSOCIATED',
    'The handle belongs to a completion port already',
  ],
  [LibraryError.NotSupported]: ['ERR_NOT_SUPPORTED', 'The driver does not support this'],
  [LibraryError.OutOfBuffers]: [
    'ERR_MEMORY_LIMIT',
    'The memory limit of the completion port is reached',
  ],
  [LibraryError.OperationsPending]: [
    'ERR_OPERATIONS_PENDING',
    'Operations that this thread has to finish are in flight on the handle',
  ],
  [LibraryError.BufferReleased]: ['ERR_BUFFER_RELEASED', 'The buffer was released already'],
  [LibraryError.NotOverlapped]: [
    'ERR_NOT_OVERLAPPED',
    'Windows does not let the handle complete through a port: it was not opened for overlapped ' +
      'I/O (FILE_FLAG_OVERLAPPED), or belongs to a port already',
  ],
};

function libraryError(error: number): CodedError {
  const [code, message] = library[error] ?? ['ERR_INTERNAL', `Unknown error ${error}`];
  return coded(new Error(message), code);
}

export const handleClosed = (): CodedError => libraryError(LibraryError.HandleClosed);
export const portClosed = (): CodedError => libraryError(LibraryError.PortClosed);
export const isPortClosed = (error: unknown): boolean =>
  (error as { code?: unknown } | null | undefined)?.code === 'ERR_PORT_CLOSED';
export const queueFull = (): CodedError => libraryError(LibraryError.QueueFull);
export const outOfBuffers = (): CodedError => libraryError(LibraryError.OutOfBuffers);

/** A token that another copy of the package made, or that of another process. */
export function portForeign(): CodedError {
  const message =
    'The port belongs to another copy of completion-port in this process, or to another process';
  return coded(new Error(message), 'ERR_PORT_FOREIGN');
}

/** A pipeline has as many connections and tasks as it may. */
export function connectionLimit(): CodedError {
  const message = 'The pipeline has as many connections and tasks as it may (maxConnections)';
  return coded(new Error(message), 'ERR_CONNECTION_LIMIT');
}

export const bufferReleased = (): CodedError => libraryError(LibraryError.BufferReleased);

/** Whatever a packet is asked for when the program has gone on to another. */
export function packetReleased(): CodedError {
  return coded(
    new Error(
      'The packet is no longer at hand: read it before the next is asked for, and before ' +
        'anything is awaited, or keep what packet.toObject() returns',
    ),
    'ERR_PACKET_RELEASED',
  );
}

/** Where a function was to be done when it returned. */
export function promiseReturned(message: string): CodedError {
  return coded(new TypeError(message), 'ERR_INVALID_RETURN_VALUE');
}

export function invalidState(message: string): CodedError {
  return coded(new Error(message), 'ERR_INVALID_STATE');
}

/** Whether a time that the program gave is over, and not one of the system's. */
function isOurTimeout(error: number): boolean {
  return error === (LibraryError.TimedOut as number);
}

/** The code of an error number without the cost of an Error. */
export function codeOf(error: number): string {
  if (isOurTimeout(error)) return describe(ETIMEDOUT).code;
  return library[error]?.[0] ?? describe(error).code;
}

export function failure(error: number, kind: Kind, subject: Subject): Error {
  return systemError(error, syscallOf(kind), subject);
}

/** The Error for a negative errno or LibraryError. */
export function systemError(error: number, syscall: string, subject: Subject): Error {
  if (isOurTimeout(error)) {
    return Object.assign(systemError(ETIMEDOUT, syscall, subject), { timeout: true });
  }
  if (error <= LARGEST_LIBRARY_ERROR) return libraryError(error);
  const { errno, code, text } = describe(error);
  const properties: NodeJS.ErrnoException & { address?: string; port?: number } = new Error(
    message(code, text, syscall, subject),
  );
  properties.errno = errno;
  properties.code = code;
  properties.syscall = syscall;
  if (subject.path !== undefined) properties.path = subject.path;
  if (subject.address !== undefined) properties.address = subject.address;
  if (subject.port !== undefined) properties.port = subject.port;
  return properties;
}

function message(code: string, text: string, syscall: string, subject: Subject): string {
  if (!subject.net) {
    const path = subject.path === undefined ? '' : ` '${subject.path}'`;
    return `${code}: ${text}, ${syscall}${path}`;
  }
  const { address, port } = subject;
  const where = address === undefined ? '' : ` ${address}${port === undefined ? '' : `:${port}`}`;
  return syscall === 'listen'
    ? `${syscall} ${code}: ${text}${where}`
    : `${syscall} ${code}${where}`;
}

/** What this system has not, or Node.js does not let a program do there. */
export function notSupported(syscall: string, reason: string): CodedError {
  const error = coded(new Error(`${syscall} ENOTSUP: ${reason}`), 'ENOTSUP');
  return Object.assign(error, { syscall });
}

export function timedOut(syscall: string, subject: Subject): Error {
  return systemError(LibraryError.TimedOut, syscall, subject);
}

export function cancelled(syscall: string, subject: Subject): Error {
  return systemError(ECANCELED, syscall, subject);
}

/** What Node.js rejects with when a signal ends an operation. */
export function abortError(reason: unknown): CodedError {
  const error = new Error('The operation was aborted', { cause: reason });
  error.name = 'AbortError';
  return coded(error, 'ABORT_ERR');
}

/** What Node.js throws when its permission model forbids something. */
export function accessDenied(permission: string, resource: string): CodedError {
  const error = coded(new Error('Access to this API has been restricted'), 'ERR_ACCESS_DENIED');
  return Object.assign(error, { permission, resource });
}

/** A promise that is rejected with whatever a program has thrown. */
export function rejected(reason: unknown): Promise<never> {
  // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors
  return Promise.reject(reason);
}
