/**
 * The handles a thread has an object for.
 */
import type { AsyncResource } from 'node:async_hooks';
import { follow, unfollow } from '../support/forgotten';

/** How a handle answers: lib/handles/handle.ts has the meaning. */
export type Style = 'await' | 'packet';

/** What a thread knows of a handle that it has an object for. */
export interface ThreadHandle {
  readonly id: number;
  readonly kind: string;
  readonly style: Style;
  /** The asynchronous context that it keeps for its packets. */
  readonly asyncResource: AsyncResource | undefined;
  /** Its close is answered. */
  after(error: number): unknown;
  /** It does not exist any more, as far as this thread is concerned. */
  gone(): void;
}

/** A handle's id ends with its place in the table of the process: see native/port/handle.h. */
const PLACE = (1 << 20) - 1;

/** By id, as a Map would have them, in a fifth of the memory. */
export class Handles implements Iterable<ThreadHandle> {
  size = 0;
  private readonly places: (ThreadHandle | undefined)[] = [];
  /** Those that came while the last handle of the same place was still remembered. */
  private readonly others = new Map<number, ThreadHandle>();

  get(id: number): ThreadHandle | undefined {
    const handle = this.places[id & PLACE];
    if (handle?.id === id) return handle;
    return this.others.size > 0 ? this.others.get(id) : undefined;
  }

  add(handle: ThreadHandle): void {
    const { id } = handle;
    if (this.get(id) === undefined) this.size++;
    const there = this.places[id & PLACE];
    if (there === undefined || there.id === id) this.places[id & PLACE] = handle;
    else this.others.set(id, handle);
  }

  /** Forgets it, unless another object stands for the same handle by now. */
  delete(handle: ThreadHandle): void {
    const { id } = handle;
    if (this.get(id) !== handle) return;
    this.size--;
    if (!this.others.delete(id)) this.places[id & PLACE] = undefined;
  }

  *[Symbol.iterator](): IterableIterator<ThreadHandle> {
    for (const handle of this.places) if (handle !== undefined) yield handle;
    yield* this.others.values();
  }
}

/** The same, but a handle of await style that the program has lost is not kept, so that it is found. */
export class FollowedHandles extends Handles {
  private readonly followed = new Map<number, WeakRef<ThreadHandle>>();

  override get(id: number): ThreadHandle | undefined {
    return this.followed.get(id)?.deref() ?? super.get(id);
  }

  override add(handle: ThreadHandle): void {
    if (handle.style === 'packet') return super.add(handle);
    const { id } = handle;
    const reference = new WeakRef(handle);
    this.followed.set(id, reference);
    follow(handle, () => {
      // Unless another object stands for the same handle by now.
      if (this.followed.get(id) === reference) this.followed.delete(id);
    });
  }

  override delete(handle: ThreadHandle): void {
    if (handle.style === 'packet') return super.delete(handle);
    unfollow(handle);
    if (this.followed.get(handle.id)?.deref() === handle) this.followed.delete(handle.id);
  }

  override *[Symbol.iterator](): IterableIterator<ThreadHandle> {
    yield* super[Symbol.iterator]();
    for (const reference of this.followed.values()) {
      const handle = reference.deref();
      if (handle !== undefined) yield handle;
    }
  }
}
