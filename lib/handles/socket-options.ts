/**
 * Options of the system's for sockets: checked, and as native code takes them, in pairs of a number
 * and a value. Those of a listener, and of a connection that is to be made, are set before it
 * listens or connects: a buffer's size, for one, is told to the peer then.
 */
import type * as api from '../api';
import { SocketOption } from '../native/layout';
import { type NativeThread } from '../native/binding';
import { notSupported, systemError, type CodedError } from '../support/errors';
import * as validate from '../support/validate';

/** What Linux waits before the first probe when nothing else was said, in seconds. */
const DEFAULT_KEEP_ALIVE = 7200;
/** MAX_TCP_KEEPINTVL and MAX_TCP_KEEPCNT of Linux. */
export const LONGEST_KEEP_ALIVE = 32_767_000;
export const MOST_PROBES = 127;
/** Seconds, and probes, of a socket that nobody has said anything of. */
const LINUX_INTERVAL = 75;
const LINUX_COUNT = 9;
const I32 = 0x7fffffff;

type Settings = api.SocketOptions & { readonly deferAccept?: unknown; readonly fastOpen?: unknown };

interface Access {
  readonly readableAll?: boolean | undefined;
  readonly writableAll?: boolean | undefined;
}

/** Of a named pipe: may be read by everyone, and written. */
const READABLE_ALL = 1;
const WRITABLE_ALL = 2;

/** Of every connection. */
export const SOCKET_OPTIONS = [
  'noDelay',
  'keepAlive',
  'keepAliveInitialDelay',
  'keepAliveInterval',
  'keepAliveCount',
  'userTimeout',
  'recvBufferSize',
  'sendBufferSize',
  'typeOfService',
  'linger',
] as const;

/** That a UNIX socket has not. */
const OF_TCP = [
  'keepAliveInterval',
  'keepAliveCount',
  'userTimeout',
  'typeOfService',
  'deferAccept',
  'fastOpen',
] as const;

/** The numbers that `setKeepAlive` takes: the times in milliseconds. */
export interface KeepAlive {
  readonly initialDelay: number;
  readonly interval?: number | undefined;
  readonly count?: number | undefined;
}

/** For an option that this system has not; undefined: it has. */
function missing(name: string): CodedError | undefined {
  if (process.platform !== 'win32') return undefined;
  const reasons: Record<string, string> = {
    typeOfService: 'Windows ignores IP_TOS',
    deferAccept: 'Windows has no TCP_DEFER_ACCEPT',
    fastOpen: 'on Windows only a connection that begins with bytes to send can have it',
  };
  const reason = reasons[name];
  return reason === undefined ? undefined : notSupported('setsockopt', reason);
}

/** What of `options` the system is told; throws for what is wrong, or can't be. */
export class SocketSettings {
  private readonly pairs: number[] = [];

  constructor(private readonly options: Settings) {
    this.keepAlive();
    this.number(
      'keepAliveInterval',
      SocketOption.KeepAliveInterval,
      1,
      LONGEST_KEEP_ALIVE,
      seconds,
    );
    this.number('keepAliveCount', SocketOption.KeepAliveCount, 1, MOST_PROBES);
    this.number('userTimeout', SocketOption.UserTimeout, 0, I32);
    this.number('recvBufferSize', SocketOption.ReceiveBuffer, 1, I32);
    this.number('sendBufferSize', SocketOption.SendBuffer, 1, I32);
    if (options.typeOfService !== undefined) this.there('typeOfService');
    this.number('typeOfService', SocketOption.TypeOfService, 0, 255);
    this.linger();
  }

  /** Of a listener, which sets `noDelay` by itself. */
  static ofListener(options: api.ListenOptions<api.KeyOption | undefined>): SocketSettings {
    const settings = new SocketSettings(options);
    if (options.deferAccept !== undefined) settings.there('deferAccept');
    settings.number('deferAccept', SocketOption.DeferAccept, 0, LONGEST_KEEP_ALIVE, seconds);
    settings.number('fastOpen', SocketOption.FastOpen, 0, I32);
    settings.access(options);
    return settings;
  }

  /** Of a listener that has no other. */
  static ofAccess(options: Access): SocketSettings {
    const settings = new SocketSettings({});
    settings.access(options);
    return settings;
  }

  /** Who may connect to a named pipe is told with its name; other paths have files for that. */
  private access(options: Access): void {
    if (process.platform !== 'win32') return;
    const modes =
      (options.readableAll ? READABLE_ALL : 0) | (options.writableAll ? WRITABLE_ALL : 0);
    if (modes !== 0) this.add(SocketOption.PipeAccess, modes);
  }

  static ofConnect(options: api.ConnectOptions<api.KeyOption | undefined>): SocketSettings {
    const settings = new SocketSettings(options);
    if (validate.boolean(options.noDelay ?? true, 'options.noDelay')) settings.noDelay(true);
    if (validate.flag(options.fastOpen, 'options.fastOpen')) {
      settings.there('fastOpen');
      settings.add(SocketOption.FastOpenConnect, 1);
    }
    return settings;
  }

  noDelay(noDelay: boolean): void {
    this.add(SocketOption.NoDelay, noDelay ? 1 : 0);
  }

  /** Undefined: none. */
  get array(): Int32Array | undefined {
    return this.pairs.length > 0 ? Int32Array.from(this.pairs) : undefined;
  }

  /** Sets them on a socket that is there. Throws as the system refuses one. */
  apply(native: NativeThread, handle: number): void {
    for (let i = 0; i < this.pairs.length; i += 2) {
      const result = native.setOption(handle, this.pairs[i]!, this.pairs[i + 1]!);
      if (result < 0) throw systemError(result, 'setsockopt', { net: true });
    }
  }

  /** The same, where what is not given stays as it is. */
  change(native: NativeThread, handle: number): void {
    const { keepAlive, keepAliveInitialDelay } = this.options;
    const delayed = keepAlive === undefined && keepAliveInitialDelay !== undefined;
    if (keepAlive === true || delayed) {
      const probes = native.option(handle, SocketOption.KeepAlive) > 0;
      if (delayed)
        this.pairs.unshift(SocketOption.KeepAlive, delayOf(probes, keepAliveInitialDelay));
      this.pairs.splice(2, 0, ...probing(native, handle, probes));
    }
    this.apply(native, handle);
  }

  private add(option: SocketOption, value: number): void {
    this.pairs.push(option, value);
  }

  private there(name: string): void {
    const error = missing(name);
    if (error !== undefined) throw error;
  }

  private number(
    name: Exclude<keyof Settings, 'noDelay' | 'keepAlive' | 'linger'>,
    option: SocketOption,
    least: number,
    most: number,
    unit: (value: number) => number = (value) => value,
  ): void {
    const value: unknown = this.options[name];
    if (value === undefined) return;
    this.add(option, unit(validate.integer(value, `options.${name}`, least, most)));
  }

  /** Comes before its two other numbers, which it sets to what libuv has. */
  private keepAlive(): void {
    const { keepAlive, keepAliveInitialDelay = 0 } = this.options;
    validate.keepAlive(keepAliveInitialDelay, 'options.keepAliveInitialDelay');
    if (keepAlive === undefined) return;
    const probes = validate.boolean(keepAlive, 'options.keepAlive');
    this.add(SocketOption.KeepAlive, probes ? secondsOf(keepAliveInitialDelay) : 0);
  }

  private linger(): void {
    const { linger } = this.options;
    if (linger === undefined) return;
    validate.number(linger, 'options.linger');
    if (linger !== 0 && linger !== Infinity) {
      const reason = 'with a time to linger the call that closes would wait, and tell nothing';
      throw notSupported('setsockopt', reason);
    }
    this.add(SocketOption.Linger, linger === 0 ? 1 : 0);
  }
}

/** Throws for options that a UNIX socket has not. */
export function refuseOfTcp(options: object): void {
  for (const name of OF_TCP) {
    const value = (options as Record<string, unknown>)[name];
    if (value === undefined) continue;
    throw validate.invalidValue(`options.${name}`, "can't be given with options.path", value);
  }
}

/** What `setKeepAlive` was given, as options. */
export function keepAliveOptions(keepAlive: KeepAlive): api.SocketOptions {
  const { initialDelay, interval, count } = keepAlive;
  return {
    keepAlive: true,
    keepAliveInitialDelay: initialDelay,
    keepAliveInterval: interval,
    keepAliveCount: count,
  };
}

/** What the system says of a socket; what it has not is left out. */
export function readOptions(native: NativeThread, handle: number): api.SocketOptions {
  const ask = (option: SocketOption): number | undefined => {
    const value = native.option(handle, option);
    return value < 0 ? undefined : value;
  };
  const keepAlive = ask(SocketOption.KeepAlive);
  const noDelay = ask(SocketOption.NoDelay);
  const linger = ask(SocketOption.Linger);
  const found = {
    noDelay: noDelay === undefined ? undefined : noDelay !== 0,
    keepAlive: keepAlive === undefined ? undefined : keepAlive !== 0,
    keepAliveInitialDelay: keepAlive && keepAlive < I32 ? keepAlive * 1000 : undefined,
    keepAliveInterval: times(ask(SocketOption.KeepAliveInterval), 1000),
    keepAliveCount: ask(SocketOption.KeepAliveCount),
    userTimeout: ask(SocketOption.UserTimeout),
    recvBufferSize: ask(SocketOption.ReceiveBuffer),
    sendBufferSize: ask(SocketOption.SendBuffer),
    typeOfService: ask(SocketOption.TypeOfService),
    linger: linger === undefined ? undefined : linger === 0 ? Infinity : 0,
  };
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined));
}

function delayOf(probes: boolean, initialDelay: number): number {
  if (probes) return secondsOf(initialDelay);
  const reason = 'is of a connection that is probed: give keepAlive as well';
  throw validate.invalidValue('options.keepAliveInitialDelay', reason, initialDelay);
}

/**
 * The interval and the number of probes that were set before, as pairs: switching probes on sets
 * both. Those of a connection that is not probed, and that are Linux's own, nobody has set.
 */
function probing(native: NativeThread, handle: number, probes: boolean): number[] {
  const options = [
    [SocketOption.KeepAliveInterval, LINUX_INTERVAL],
    [SocketOption.KeepAliveCount, LINUX_COUNT],
  ] as const;
  const found = options.map(([option, unset]) => [option, native.option(handle, option), unset]);
  return found
    .filter(([, value, unset]) => value! > 0 && (probes || value !== unset))
    .flatMap(([option, value]) => [option!, value!]);
}

function times(value: number | undefined, factor: number): number | undefined {
  return value === undefined ? undefined : value * factor;
}

function seconds(milliseconds: number): number {
  return Math.ceil(milliseconds / 1000);
}

/** Before the first probe of an idle connection, as the system is told. */
function secondsOf(initialDelay: number): number {
  return seconds(initialDelay) || DEFAULT_KEEP_ALIVE;
}
