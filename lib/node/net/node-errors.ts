/**
 * Errors that node:net has and the rest of the library has not, under Node's codes.
 */
import { inspect } from 'node:util';
import { coded, type CodedError } from '../../support/errors';
import { callback, invalidType, number, outOfRange } from '../../support/validate';

export function badPort(name: string, port: unknown, allowZero = true): RangeError {
  const range = allowZero ? '>= 0 and < 65536' : '> 0 and < 65536';
  const what = typeof port === 'string' ? `type string ('${port}')` : describe(port);
  const message = `${name} should be ${range}. Received ${what}.`;
  return coded(new RangeError(message), 'ERR_SOCKET_BAD_PORT');
}

function describe(value: unknown): string {
  return value === null || value === undefined
    ? String(value)
    : `type ${typeof value} (${inspect(value)})`;
}

/** A TCP port as node:net takes it: a number, or a string that is one. */
export function portNumber(port: unknown, name: string): number {
  const text = typeof port === 'string' ? port.trim() : '';
  const isNumber = typeof port === 'number' || text !== '';
  const value = Number(port);
  if (!isNumber || !Number.isInteger(value) || value < 0 || value > 65535) {
    throw badPort(name, port);
  }
  return value;
}

export function closedBeforeConnection(): CodedError {
  return coded(
    new Error('Socket closed before the connection established'),
    'ERR_SOCKET_CLOSED_BEFORE_CONNECTION',
  );
}

export function socketClosed(): CodedError {
  return coded(new Error('Socket is closed'), 'ERR_SOCKET_CLOSED');
}

export function invalidAddress(value: unknown): CodedError {
  return coded(new TypeError(`Invalid IP address: ${String(value)}`), 'ERR_INVALID_IP_ADDRESS');
}

export function invalidFamily(family: unknown, host: string, port: number): CodedError {
  const message = `Invalid address family: ${String(family)} ${host}:${port}`;
  const error = coded(new RangeError(message), 'ERR_INVALID_ADDRESS_FAMILY');
  return Object.assign(error, { host, port });
}

export function blocked(address: string): CodedError {
  return coded(new Error(`IP(${address}) is blocked by net.BlockList`), 'ERR_IP_BLOCKED');
}

export function missingArguments(): TypeError {
  const message = 'The "options" or "port" or "path" argument must be specified';
  return coded(new TypeError(message), 'ERR_MISSING_ARGS');
}

export function alreadyListening(): CodedError {
  const message = 'Listen method has been called more than once without closing.';
  return coded(new Error(message), 'ERR_SERVER_ALREADY_LISTEN');
}

export function notRunning(): CodedError {
  return coded(new Error('Server is not running.'), 'ERR_SERVER_NOT_RUNNING');
}

/** What this door has no way to do. */
export function unsupported(what: string): CodedError {
  return coded(new Error(`ENOTSUP: ${what}`), 'ENOTSUP');
}

const LONGEST = 2 ** 31 - 1;

/** Milliseconds of a socket's timeout, as a timer of Node.js takes them. */
export function timerDuration(value: unknown, name: string): number {
  const milliseconds = number(value, name);
  if (!(milliseconds >= 0) || milliseconds === Infinity) {
    throw outOfRange(name, 'a non-negative finite number', milliseconds);
  }
  if (milliseconds <= LONGEST) return milliseconds;
  process.emitWarning(
    `${milliseconds} does not fit into a 32-bit signed integer.\n` +
      `Timer duration was truncated to ${LONGEST}.`,
    'TimeoutOverflowWarning',
  );
  return LONGEST;
}

export function optionalCallback(value: unknown, name: string): void {
  if (value !== undefined && value !== null) callback(value, name);
}

export function optionalBoolean(value: unknown, name: string): void {
  if (value !== undefined && value !== null && typeof value !== 'boolean') {
    throw invalidType(name, 'of type boolean', value);
  }
}
