/**
 * Clones of what V8's serializer does not know.
 */
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { buffersIn, Form, type ToMessage } from '../support/codec';

/** `structuredClone` of Node.js 20 makes a channel each time, which takes longer than all the rest. */
class Cloner {
  private channel: MessageChannel | undefined = undefined;

  of<T>(value: T, list: readonly object[]): T {
    const { port1, port2 } = (this.channel ??= new MessageChannel());
    port1.unref();
    port2.unref();
    port1.postMessage(value, [...list] as never);
    return (receiveMessageOnPort(port2) as { message: T }).message;
  }
}
const clones = new Cloner();

/** Clones them now, and moves what is transferred. */
export const cloned: ToMessage = (values, list) => {
  const clone = clones.of({ values, list }, list);
  const buffers = buffersIn(values);
  return { form: Form.Message, values: clone.values, buffers, list: clone.list };
};
