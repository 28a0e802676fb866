/**
 * Descriptors that operations resolve to. They are native code's until the program goes on with them,
 * so that a worker that ends between the packet and then leaves nothing open.
 */
import type { PortThread } from './port-thread';

interface Claim {
  readonly thread: PortThread;
  readonly parcel: number;
}

const unclaimed = new Set<Claim>();

/**
 * Makes the descriptors of `parcel` the program's by a microtask that is queued right before those of
 * the promise that is settled next: no number is closed which the program has seen. A port that is
 * closed, or left, in between has made them the program's as well.
 */
export function claimLater(thread: PortThread, parcel: number): void {
  const claim = { thread, parcel };
  unclaimed.add(claim);
  void Promise.resolve().then(() => {
    if (unclaimed.delete(claim)) make(claim);
  });
}

/** Makes all of them the program's now: a micro-thread goes on with a result before any microtask. */
export function claimNow(): void {
  if (unclaimed.size === 0) return;
  for (const claim of unclaimed) make(claim);
  unclaimed.clear();
}

function make({ thread, parcel }: Claim): void {
  if (!thread.closed) thread.native.claim(parcel);
}
