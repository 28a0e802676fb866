/**
 * What a connection sends. A stream writes one piece, or several that were corked, at a time, so one
 * object for each connection tells it when they are with the kernel.
 *
 * What is sent is copied when it is submitted. Short writes are submitted at once. A long one goes out
 * in parts, each of which is copied when there is room for it: so the copies are still in the
 * processor's caches when the kernel takes them, and lie in memory that has just been used. What lies
 * in a port's memory goes out at once, whole: it may be released, or lent to others, as soon as the
 * call returns (rule O2). Without a copy the kernel would read the program's memory after the program has transferred it to another
 * thread, where it may be freed.
 */
import { Kind } from '../../native/kinds';
import { NO_CHUNK } from '../../native/layout';
import { failure, invalidState, outOfBuffers } from '../../support/errors';
import type { TcpSocket } from '../../handles/socket';
import type { Data } from '../../api';
import { isOfPort, type Memory } from '../../thread/memory';
import type { Entry, PortThread } from '../../thread/port-thread';

export type Done = (error?: Error | null) => void;

/** Bytes of a part, and how many parts are submitted at a time. */
const PART = 256 * 1024;
const TOGETHER = 2;
/** What is short is copied sooner than it is known whether it is the port's memory. */
const SHORT = 16 * 1024;

export class Writing implements Entry {
  private readonly portThread: PortThread;
  private readonly handle: TcpSocket<'await'>;
  private readonly id: number;
  private done: Done | undefined = undefined;
  /** Submitted and not answered yet. */
  private inFlight = 0;
  private failed: Error | undefined = undefined;
  /** Of a long write, what is not submitted yet. */
  private rest: Buffer[] = [];
  private ending = false;
  /** The stream was destroyed: nobody cares how what is in flight ends. */
  private abandoned = false;

  constructor(handle: TcpSocket<'await'>) {
    this.portThread = handle.thread;
    this.handle = handle;
    this.id = handle.id;
  }

  get busy(): boolean {
    return this.done !== undefined || this.ending;
  }

  /** Calls `done` when the bytes are with the kernel. Returns how many they are. */
  send(data: Data | readonly Data[], done: Done): number {
    const bytes = lengthOf(data);
    if (bytes === 0) {
      const { memory } = this.portThread;
      const failed = stage(memory, data, true); // it may be nothing because it was transferred
      memory.resetStage();
      done(failed);
      return 0;
    }
    this.failed = undefined;
    if (bytes <= PART || liesInPort(data)) {
      this.submit(data);
    } else {
      const parts = (Array.isArray(data) ? data : [data]) as readonly Data[];
      this.rest = parts.map(bytesOf).filter((part) => part.length > 0);
      this.submitParts();
    }
    if (this.inFlight === 0) {
      done(this.failed);
      return 0;
    }
    this.done = done;
    return bytes;
  }

  /** Of the sending side. */
  shutdown(done: Done): void {
    const { portThread, id } = this;
    // A peer that is gone has nothing to be told.
    const answered = (): void => {
      this.ending = false;
      done();
    };
    const refused = this.refusal();
    if (refused !== undefined) return done(refused);
    this.ending = true;
    const token = portThread.add({ answered });
    portThread.submissions.submit(Kind.Shutdown, 0, id, token, 0, 0, 0, NO_CHUNK, 0, 0);
  }

  abandon(): void {
    this.abandoned = true;
    this.rest = [];
  }

  answered(error: number): void {
    this.inFlight--;
    if (error !== 0) this.fail(failure(error, Kind.Send, { net: true }));
    if (this.rest.length > 0) this.submitParts();
    if (this.inFlight > 0) return;
    const { done } = this;
    this.done = undefined;
    done?.(this.abandoned ? undefined : this.failed);
  }

  /** What is written while the chain of another handle is described is no part of that. */
  private refusal(): Error | undefined {
    try {
      this.portThread.submissions.assertUnchained(this.handle);
      return undefined;
    } catch (error) {
      return error as Error;
    }
  }

  private fail(error: Error): void {
    this.failed ??= error;
    this.rest = [];
  }

  private submitParts(): void {
    while (this.rest.length > 0 && this.inFlight < TOGETHER) {
      const part = this.takePart();
      if (part === undefined) {
        return this.fail(invalidState('The memory of a write was given away before it was sent'));
      }
      if (!this.submit(part)) return;
    }
  }

  /**
   * The next part, of as many pieces as it has room for. Undefined where the ArrayBuffer of one was
   * transferred: what would follow is no longer what was written.
   */
  private takePart(): Buffer[] | undefined {
    const part: Buffer[] = [];
    let room = PART;
    while (room > 0 && this.rest.length > 0) {
      const first = this.rest[0]!;
      if (first.length === 0) return undefined;
      part.push(first.subarray(0, room));
      if (first.length > room) this.rest[0] = first.subarray(room);
      else this.rest.shift();
      room -= Math.min(room, first.length);
    }
    return part;
  }

  private submit(data: Data | readonly Data[]): boolean {
    const { portThread, id } = this;
    const { memory } = portThread;
    const refused = this.refusal();
    if (refused !== undefined) {
      this.fail(refused);
      return false;
    }
    const beyond = portThread.outgoing.mayExceed(id);
    const failed = stage(memory, data, beyond);
    if (failed !== undefined) {
      this.fail(failed);
      return false;
    }
    portThread.submissions.ensure(memory.stagedRecords);
    portThread.outgoing.add(id, memory.stagedBytes);
    this.inFlight++;
    portThread.submissions.submitStaged(Kind.Send, 0, id, portThread.add(this), 0, 0);
    return true;
  }
}

/** Whether any of it is memory of a port. */
function liesInPort(data: Data | readonly Data[]): boolean {
  if (Array.isArray(data)) return (data as readonly Data[]).some(liesInPort);
  return ArrayBuffer.isView(data) && isOfPort(data);
}

/** What is wrong; memory that was released, or transferred, fails the write rather than the call. */
function stage(memory: Memory, data: Data | readonly Data[], beyond: boolean): Error | undefined {
  try {
    const staged = isShort(data)
      ? memory.stageCopy(data, beyond)
      : memory.stage(data, false, beyond);
    return staged ? undefined : outOfBuffers();
  } catch (error) {
    return error as Error;
  }
}

function isShort(data: Data | readonly Data[]): data is Data {
  if (typeof data === 'string') return true;
  return ArrayBuffer.isView(data) && data.byteLength <= SHORT;
}

function bytesOf(data: Data): Buffer {
  if (typeof data === 'string') return Buffer.from(data);
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}

function lengthOf(data: Data | readonly Data[]): number {
  if (typeof data === 'string') return Buffer.byteLength(data);
  if (ArrayBuffer.isView(data)) return data.byteLength;
  return data.reduce((bytes, part) => bytes + lengthOf(part), 0);
}
