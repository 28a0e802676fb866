/**
 * From a name to a connection, as node:net does it, but for what is tried side by side: an attempt
 * that takes longer than the delay goes on while the next address is tried (RFC 8305).
 */
import dns = require('node:dns');
import net = require('node:net');
import { handleAt, Slot } from '../../native/layout';
import { Kind } from '../../native/kinds';
import { failure, type CodedError } from '../../support/errors';
import { mayUseNet } from '../../support/permission';
import { Alarm, nextTick } from '../../support/timers';
import { bindFailure, localPlace } from '../../handles/connecting';
import { socketPath } from '../../handles/opening';
import { TcpSocket } from '../../handles/socket';
import type { Entry, PortThread } from '../../thread/port-thread';
import { callback } from '../../support/validate';
import { blocked, invalidAddress, invalidFamily } from './node-errors';

export interface Target {
  /** Or, with `path`, nothing. */
  readonly host: string;
  readonly port: number;
  /** A UNIX socket. */
  readonly path?: string | undefined;
  readonly family?: number | undefined;
  readonly hints?: number | undefined;
  readonly lookup?: Lookup | undefined;
  readonly autoSelectFamily: boolean;
  readonly attemptTimeout: number;
  readonly blockList?: net.BlockList | undefined;
  readonly localAddress?: string | undefined;
  readonly localPort?: number | undefined;
}

interface Address {
  readonly address: string;
  /** 0: `address` is the path of a UNIX socket. */
  readonly family: number;
}

type Answer = (error: Error | null, address?: string | Address[], family?: number) => void;
type Lookup = (host: string, options: object, answer: Answer) => void;

/** Whoever wants the connection. */
export interface Seeker {
  readonly connecting: boolean;
  readonly _referenced: boolean;
  autoSelectFamilyAttemptedAddresses?: string[] | undefined;
  emit(event: string, ...args: unknown[]): boolean;
  _connected(handle: TcpSocket<'await'>): void;
  /** None of the addresses could be reached. */
  _connectFailed(error: Error): void;
}

export class Attempts {
  private readonly portThread: PortThread;
  private readonly seeker: Seeker;
  private readonly target: Target;
  private addresses: Address[] = [];
  private next = 0;
  private readonly running = new Set<Attempt>();
  private readonly errors: Error[] = [];
  private alarm: Alarm | undefined = undefined;
  private over = false;

  constructor(portThread: PortThread, seeker: Seeker, target: Target) {
    this.portThread = portThread;
    this.seeker = seeker;
    this.target = target;
  }

  /** Wrong arguments throw here; everything else comes later. */
  begin(): void {
    const { host, lookup, path } = this.target;
    mayUseNet(path ?? host);
    if (path !== undefined) {
      socketPath(path);
      nextTick(() => {
        if (!this.stopped) this.attempt({ address: path, family: 0 });
      });
      return;
    }
    const family = net.isIP(host);
    if (family !== 0) {
      nextTick(() => {
        if (!this.stopped) this.race([{ address: host, family }]);
      });
      return;
    }
    if (lookup !== undefined && lookup !== null) callback(lookup, 'options.lookup');
    this.resolve();
  }

  /** The socket was destroyed. */
  end(): void {
    this.over = true;
    this.alarm?.cancel();
    for (const attempt of this.running) attempt.cancel();
  }

  /** Whether attempts under way keep the process alive. */
  refer(referenced: boolean): void {
    for (const attempt of this.running) attempt.refer(referenced);
  }

  private get stopped(): boolean {
    return this.over || !this.seeker.connecting;
  }

  // ---- the name

  private resolve(): void {
    const { host, family, autoSelectFamily, lookup } = this.target;
    const several = autoSelectFamily && family !== 4 && family !== 6;
    const options = { ...this.lookupOptions(), all: several };
    const resolve: Lookup = lookup ?? dns.lookup;
    const answer: Answer = (error, found, foundFamily) => {
      if (several && Array.isArray(found)) return this.resolvedAll(error, found);
      this.resolved(error, found, foundFamily);
    };
    resolve(host, options, answer);
  }

  private lookupOptions(): { family?: number | undefined; hints: number } {
    const { family, hints = 0 } = this.target;
    // As node:net: an address of this machine's families, where nothing else was said.
    const own = process.platform !== 'win32' && family !== 4 && family !== 6 && hints === 0;
    return { family, hints: own ? dns.ADDRCONFIG : hints };
  }

  private resolved(error: Error | null, address: unknown, family: unknown): void {
    const { seeker } = this;
    const { host, port } = this.target;
    seeker.emit('lookup', error, address, family, host);
    if (this.stopped) return;
    if (error !== null && error !== undefined) return this.failLater(error);
    if (typeof address !== 'string' || net.isIP(address) === 0) {
      return this.failLater(invalidAddress(address));
    }
    if (family !== 4 && family !== 6) return this.failLater(invalidFamily(family, host, port));
    this.race([{ address, family }]);
  }

  private resolvedAll(error: Error | null, found: Address[]): void {
    const { seeker } = this;
    const { host, port } = this.target;
    if (error !== null && error !== undefined) {
      seeker.emit('lookup', error, undefined, undefined, host);
      if (!this.stopped) this.failLater(error);
      return;
    }
    for (const { address, family } of found) seeker.emit('lookup', null, address, family, host);
    if (this.stopped) return;
    const valid = found.filter(({ address, family }) => {
      return net.isIP(address) !== 0 && (family === 4 || family === 6);
    });
    if (valid.length > 0) return this.race(inTurns(valid));
    const [first] = found;
    if (first === undefined || net.isIP(first.address) === 0) {
      return this.failLater(invalidAddress(first?.address));
    }
    this.failLater(invalidFamily(first.family, host, port));
  }

  private failLater(error: Error): void {
    nextTick(() => this.fail(error));
  }

  private fail(error: Error): void {
    if (this.stopped) return;
    this.over = true;
    this.seeker._connectFailed(error);
  }

  // ---- the addresses

  private race(addresses: Address[]): void {
    this.addresses = addresses;
    if (addresses.length > 1) this.seeker.autoSelectFamilyAttemptedAddresses = [];
    this.proceed();
  }

  /** Begins the next attempt, or ends when there is none and none runs. */
  private proceed(): void {
    this.alarm?.cancel();
    if (this.stopped) return;
    const following = this.addresses[this.next++];
    if (following === undefined) {
      if (this.running.size === 0) this.fail(this.failure());
      return;
    }
    const { address, family } = following;
    const { port, blockList, attemptTimeout } = this.target;
    this.seeker.autoSelectFamilyAttemptedAddresses?.push(`${address}:${port}`);
    if (blockList?.check(address, family === 6 ? 'ipv6' : 'ipv4')) {
      return this.lost(following, blocked(address));
    }
    this.seeker.emit('connectionAttempt', address, port, family);
    if (this.stopped) return;
    const attempt = this.attempt(following);
    if (this.next >= this.addresses.length) return;
    this.alarm = new Alarm(attemptTimeout, () => {
      if (this.stopped || !this.running.has(attempt)) return;
      this.seeker.emit('connectionAttemptTimeout', address, port, family);
      this.proceed();
    });
  }

  private attempt(address: Address): Attempt {
    const attempt = new Attempt(this.portThread, this, address, this.target);
    this.running.add(attempt);
    attempt.begin(this.seeker._referenced);
    return attempt;
  }

  /** @internal */
  won(attempt: Attempt, handle: TcpSocket<'await'>): void {
    this.running.delete(attempt);
    if (this.stopped) return handle.closeQuietly();
    this.end();
    this.seeker._connected(handle);
  }

  /** @internal */
  failed(attempt: Attempt, error: Error): void {
    this.running.delete(attempt);
    if (!this.stopped) this.lost(attempt.address, error);
  }

  private lost({ address, family }: Address, error: Error): void {
    if (family === 0) return this.fail(error);
    this.errors.push(error);
    this.seeker.emit('connectionAttemptFailed', address, this.target.port, family, error);
    this.proceed();
  }

  /** Of several addresses all failures, under the code of the first. */
  private failure(): Error {
    const { errors } = this;
    if (errors.length === 1) return errors[0]!;
    const { code } = errors[0] as CodedError;
    return Object.assign(new AggregateError(errors), { code });
  }
}

/** One address. */
class Attempt implements Entry {
  private token = -1;
  private referenced = false;

  constructor(
    private readonly portThread: PortThread,
    private readonly all: Attempts,
    readonly address: Address,
    private readonly target: Target,
  ) {}

  begin(referenced: boolean): void {
    const { portThread } = this;
    portThread.flush();
    this.token = portThread.add(this);
    const { address, family } = this.address;
    const { port, localAddress, localPort } = this.target;
    const place = family === 0 ? socketPath(address) : address;
    const local = localPlace(localAddress, localPort, address);
    const result = portThread.native.connect(
      place,
      port,
      -1,
      this.token,
      0,
      undefined,
      local.place,
      local.port,
    );
    if (result < 0) {
      portThread.remove(this.token);
      this.token = -1;
      nextTick(() => this.all.failed(this, this.errorOf(result)));
      return;
    }
    this.refer(referenced);
    portThread.schedule();
  }

  cancel(): void {
    if (this.token >= 0) this.portThread.cancel(this.token);
  }

  refer(referenced: boolean): void {
    if (referenced === this.referenced || (referenced && this.token < 0)) return;
    this.referenced = referenced;
    this.portThread.hold(referenced ? 1 : -1);
  }

  answered(error: number, _result: number, at: number): void {
    const { portThread, referenced } = this;
    this.token = -1;
    if (error === 0) {
      const id = handleAt(portThread.words, at + Slot.HANDLE / 4);
      const handle = new TcpSocket<'await'>(portThread, id, undefined, referenced);
      this.refer(false);
      this.all.won(this, handle);
      return;
    }
    this.refer(false);
    this.all.failed(this, this.errorOf(error));
  }

  private errorOf(error: number): Error {
    const { address, family } = this.address;
    const port = family === 0 ? undefined : this.target.port;
    const subject = { net: true, address, port };
    return bindFailure(error, this.target, address) ?? failure(error, Kind.Connect, subject);
  }
}

/** The families alternate, beginning with that of the first (RFC 8305, section 4). */
function inTurns(addresses: readonly Address[]): Address[] {
  const first = addresses.filter(({ family }) => family === addresses[0]!.family);
  const second = addresses.filter(({ family }) => family !== addresses[0]!.family);
  const turns: Address[] = [];
  for (let i = 0; turns.length < addresses.length; i++) {
    turns.push(...first.slice(i, i + 1), ...second.slice(i, i + 1));
  }
  return turns;
}
