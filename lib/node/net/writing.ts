/**
 * What a connection sends. A stream writes one piece, or several that were corked, at a time, so one
 * object for each connection tells it when they are with the kernel. What is sent is copied when it
 * is submitted: the bytes of a write are the program's again at once.
 */
import { Kind, NO_CHUNK } from '../../native/binding';
import { failure, outOfBuffers } from '../../support/errors';
import type { TcpSocket } from '../../handles/socket';
import type { Data } from '../../api';
import type { Entry, PortThread } from '../../thread/port-thread';

export type Done = (error?: Error | null) => void;

export class Writing implements Entry {
  private readonly portThread: PortThread;
  private readonly id: number;
  private done: Done | undefined = undefined;
  private ending = false;
  /** The stream was destroyed: nobody cares how what is in flight ends. */
  private abandoned = false;

  constructor(handle: TcpSocket<'await'>) {
    this.portThread = handle.thread;
    this.id = handle.id;
  }

  get busy(): boolean {
    return this.done !== undefined || this.ending;
  }

  /** Calls `done` when the bytes are with the kernel. Returns how many they are. */
  send(data: Data | readonly Data[], done: Done): number {
    const { portThread, id } = this;
    const { memory } = portThread;
    const beyond = portThread.outgoing.mayExceed(id);
    const staged = isShort(data)
      ? memory.stageCopy(data, beyond)
      : memory.stage(data, false, beyond);
    if (!staged) {
      done(outOfBuffers());
      return 0;
    }
    const bytes = memory.stagedBytes;
    if (bytes === 0) {
      memory.resetStage();
      done();
      return 0;
    }
    portThread.submissions.ensure(memory.stagedRecords);
    portThread.outgoing.add(id, bytes);
    this.done = done;
    portThread.submissions.submitStaged(Kind.Send, 0, id, portThread.add(this), 0, 0);
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
    this.ending = true;
    const token = portThread.add({ answered });
    portThread.submissions.submit(Kind.Shutdown, 0, id, token, 0, 0, 0, NO_CHUNK, 0, 0);
  }

  abandon(): void {
    this.abandoned = true;
  }

  answered(error: number): void {
    const { done } = this;
    this.done = undefined;
    if (error === 0 || this.abandoned) done?.();
    else done?.(failure(error, Kind.Send, { net: true }));
  }
}

/** What is short is copied sooner than it is known whether it is the port's memory. */
const SHORT = 16 * 1024;

function isShort(data: Data | readonly Data[]): data is Data {
  if (typeof data === 'string') return true;
  return ArrayBuffer.isView(data) && data.byteLength <= SHORT;
}
