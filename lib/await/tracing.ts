/**
 * What a thread publishes on channels of node:diagnostics_channel, which are named
 * `completion-port:<noun>:<event>`. The module is loaded with the first handle rather than with the
 * library, whose loading would take a tenth longer.
 */
import { AsyncResource } from 'node:async_hooks';
import type * as diagnostics from 'node:diagnostics_channel';
import type { Operation, Watching } from './operation';
import { queueMicrotask } from '../support/timers';

/** What `tracePromise` adds to what a channel is given. */
interface Outcome {
  result?: unknown;
  error?: unknown;
}

const load = (): typeof diagnostics => process.getBuiltinModule('node:diagnostics_channel');

/** A channel for what happens at one moment. Nothing is made for it where nobody subscribed. */
export class Point {
  private readonly name: string;
  private channel: diagnostics.Channel | undefined = undefined;

  constructor(name: string) {
    this.name = name;
  }

  get wanted(): boolean {
    return (this.channel ??= load().channel(this.name)).hasSubscribers;
  }

  /** After `wanted`. */
  publish(context: object): void {
    this.channel!.publish(context);
  }
}

/** The channels of something that begins and ends, as `tracingChannel` of Node.js has them. */
export class Trace {
  private readonly name: string;
  private channel: diagnostics.TracingChannel<unknown, object> | undefined = undefined;

  constructor(name: string) {
    this.name = name;
  }

  get wanted(): boolean {
    this.channel ??= load().tracingChannel(this.name);
    return this.channel.hasSubscribers;
  }

  /** After `wanted`. As `traceSync`. */
  sync<T>(context: object, run: () => T): T {
    return this.channel!.traceSync(run, context);
  }

  /**
   * After `wanted`. As `tracePromise`, but for the promise: to attach to it would make a rejection
   * that nobody handles one that somebody does.
   */
  follow<O extends Operation<unknown>>(about: object, begin: () => O): O {
    const context: Outcome = about;
    const channel = this.channel!;
    const { start, end, error } = channel;
    return start.runStores(context, () => {
      try {
        const operation = begin();
        new Follower(operation, channel, context);
        return operation;
      } catch (thrown) {
        context.error = thrown;
        error.publish(context);
        throw thrown;
      } finally {
        end.publish(context);
      }
    });
  }
}

/** Tells of the end of an operation, in the asynchronous context of its beginning. */
class Follower implements Watching {
  private readonly operation: Operation<unknown>;
  private readonly before: Watching | undefined;
  private readonly channel: diagnostics.TracingChannel<unknown, object>;
  private readonly context: Outcome;
  private readonly scope = new AsyncResource('CompletionPort.trace');

  constructor(
    operation: Operation<unknown>,
    channel: diagnostics.TracingChannel<unknown, object>,
    context: Outcome,
  ) {
    this.operation = operation;
    this.before = operation.watch;
    this.channel = channel;
    this.context = context;
    if (operation.pending) operation.watch = this;
    else queueMicrotask(() => this.end()); // behind the `end` of what began it
  }

  get aborted(): boolean {
    return this.before?.aborted ?? false;
  }

  get reason(): unknown {
    return this.before?.reason;
  }

  end(): void {
    this.before?.end();
    this.scope.runInAsyncScope(() => this.tell());
  }

  private tell(): void {
    const { operation, channel, context } = this;
    if (operation.failed) {
      context.error = operation.failure;
      channel.error.publish(context);
    } else {
      context.result = operation.value;
    }
    channel.asyncStart.publish(context);
    channel.asyncEnd.publish(context);
  }
}

export const traces = {
  open: new Trace('completion-port:file:open'),
  connect: new Trace('completion-port:socket:connect'),
  listen: new Trace('completion-port:listener:listen'),
  handOff: new Trace('completion-port:handle:handOff'),
  close: new Trace('completion-port:handle:close'),
};

export const points = {
  accepted: new Point('completion-port:socket:accepted'),
  dropped: new Point('completion-port:socket:dropped'),
  closed: new Point('completion-port:handle:closed'),
};
