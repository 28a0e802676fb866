/**
 * Where a stage listens.
 */
import { inspect } from 'node:util';
import { closeHandle } from '../../handles/handle';
import { endWith, outlive } from '../../support/lifetime';
import type { PortThread } from '../../thread/port-thread';
import type { ListenerAddress } from '../../api';

/**
 * A listener of a pipeline's stage: `await pipeline.listen(stage, { port })`.
 * What its public members do stands in lib/stage/api.ts.
 */
export class StageListener implements ListenerAddress, AsyncDisposable {
  readonly address: string;
  readonly port: number;
  readonly family: ListenerAddress['family'];
  readonly #portThread: PortThread;
  readonly #id: number;
  readonly #onClosed: (listener: StageListener) => void;
  #closing: Promise<void> | undefined = undefined;
  #signal: AbortSignal | undefined = undefined;

  /** @internal `id`: its handle, of the stage's port. */
  constructor(
    portThread: PortThread,
    id: number,
    address: ListenerAddress,
    onClosed: (listener: StageListener) => void,
  ) {
    this.address = address.address;
    this.port = address.port;
    this.family = address.family;
    this.#portThread = portThread;
    this.#id = id;
    this.#onClosed = onClosed;
  }

  get closed(): boolean {
    return this.#closing !== undefined || this.#portThread.closed;
  }

  close(): Promise<void> {
    return (this.#closing ??= this.end());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** @internal Closes it when the signal is aborted. */
  closeOn(signal: AbortSignal): void {
    this.#signal = signal;
    endWith(signal, this);
  }

  /** @internal The signal was aborted. */
  onAbort(): void {
    void this.close();
  }

  [inspect.custom](_depth: number, options: object, show: typeof inspect): string {
    const { address, port, family, closed } = this;
    return `StageListener ${show({ address, port, family, closed }, options)}`;
  }

  toJSON(): object {
    const { address, port, family, closed } = this;
    return { address, port, family, closed };
  }

  private async end(): Promise<void> {
    if (this.#signal !== undefined) outlive(this.#signal, this);
    this.#onClosed(this);
    if (this.#portThread.closed) return;
    this.#portThread.handles.get(this.#id)?.gone();
    // One that is closed already, or whose port is, is as closed as it can be.
    await closeHandle(this.#portThread, this.#id).catch(() => undefined);
  }
}
