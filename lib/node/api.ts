/**
 * The public types of `completion-port/node`.
 */
import type { KeyOption, ListenerAddress } from '../api';

/**
 * Which thread gets a new connection, of those whose event loop comes for what it is given:
 * - `'least-connections'`: the one with the fewest open ones. For servers whose connections live
 *   long, and as a rule.
 * - `'lifo'`: the one that took a connection last, as long as nothing waits for it: few threads do
 *   all the work while there is little of it, and their caches stay warm.
 * - `'round-robin'`: one after another.
 */
export type SharePolicy = 'least-connections' | 'lifo' | 'round-robin';

/** Where threads of the process listen together. */
export interface SharedListenerOptions {
  /** Name or address. Default: `'::'`, or `'0.0.0.0'` where there is no IPv6. */
  readonly host?: string | undefined;
  /** 0: one the system picks, for this call alone; other threads then need the `token`. */
  readonly port?: number | undefined;
  /** The path of a UNIX socket, as `port.listen` takes it: in the place of `port`. */
  readonly path?: string | undefined;
  /**
   * A socket that listens already, such as the first of systemd's (`LISTEN_FDS`), 3: in the place of
   * `port`. It is duplicated, and made non-blocking; the number stays the caller's.
   */
  readonly fd?: number | undefined;
  /** Connections that wait to be accepted at most. Default: 511. */
  readonly backlog?: number | undefined;
  /** IPV6_V6ONLY. Default: false. */
  readonly ipv6Only?: boolean | undefined;
  /** SO_REUSEPORT, for other processes. Default: false. */
  readonly reusePort?: boolean | undefined;
  /** Which thread gets a new connection. Default: `'least-connections'`. */
  readonly policy?: SharePolicy | undefined;
}

/** Names a shared listener to other threads of the process: a plain value, for `workerData`. */
export interface SharedListenerToken {
  readonly sharedListener: number;
  /** Names the copy of the package, in this process, that the listener belongs to. */
  readonly instance: string;
}

/** What `sharedListener.stats()` returns. */
export interface SharedListenerStats {
  /** Threads that serve it. */
  readonly threads: number;
  /** Open connections of their servers. */
  readonly connections: number;
  /** Connections that were accepted and that no thread has come for yet. */
  readonly waiting: number;
  /** Connections accepted so far. */
  readonly accepted: number;
  /** Connections that went to another thread than `policy` says: that one was busy, or has gone. */
  readonly moved: number;
}

/**
 * A listening socket that servers of several threads share: `await shareListener({ port })`. It is
 * open as long as this object is, or a thread serves it.
 */
export interface SharedListener extends AsyncDisposable {
  /** For `serve` in other threads. */
  readonly token: SharedListenerToken;
  /** Whether it was closed here. */
  readonly closed: boolean;
  /** Where it listens; undefined when it is closed. */
  address(): ListenerAddress | undefined;
  stats(): SharedListenerStats;
  /**
   * Closes it for all threads: no connection is accepted any more, and each thread's server is
   * closed as by `server.close()`, which lets its connections end. The same promise each time.
   */
  close(): Promise<void>;
  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** What `adoptSocket` and `adoptServer` take. */
export interface AdoptOptions<K extends KeyOption | undefined = undefined> {
  /** Makes it answer in packets. Default: none, it is awaited. */
  readonly key?: K;
}

/** What `adoptSocket` returns. */
export interface AdoptedSocket<H> {
  readonly handle: H;
  /** What Node.js had read already, and what comes before all that the handle receives. */
  readonly head: Buffer;
}
