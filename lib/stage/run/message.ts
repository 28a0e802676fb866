/**
 * A message of bytes, or of a value, on its way to a handler.
 */
import { MessageForm, NO_CHUNK } from '../../native/layout';
import type { Block } from '../../thread/memory';
import type { PortThread } from '../../thread/port-thread';
import type { MessageAt } from '../../thread/submissions';

/**
 * Its bytes are the batch's that its packet came in. Where a promise goes on with it beyond that, or
 * may, they are retained, and released at its end.
 */
export class StageMessage implements MessageAt {
  private block: Block | undefined = undefined;

  constructor(
    readonly chunk: number,
    readonly start: number,
    readonly length: number,
    readonly form: MessageForm,
    private retained = false,
  ) {}

  /** What the handler is given: bytes are lent, until `end`. */
  read({ memory }: PortThread): unknown {
    const { chunk, start, length, form } = this;
    if (form !== MessageForm.Bytes) return memory.valueAt(form, chunk, start, length);
    if (chunk === NO_CHUNK) return Buffer.alloc(0);
    this.block ??= memory.lendMessage(chunk, start, length);
    return this.block.first(length);
  }

  /** The batch may end before the message is dealt with. */
  retain({ native }: PortThread): void {
    if (this.chunk === NO_CHUNK || this.retained) return;
    this.retained = native.retain(this.chunk, this.start);
  }

  end(thread: PortThread): void {
    if (this.block !== undefined) thread.memory.endMessage(this.block);
    this.block = undefined;
    if (this.retained) thread.release(this.chunk, this.start);
    this.retained = false;
  }
}
