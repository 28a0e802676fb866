/**
 * A policy whose tasks go to a queue of BullMQ. What becomes of a job is told by the stream of events
 * that all who use the queue read; who had read nothing of it for too long asks for the job itself.
 */
import { randomUUID } from 'node:crypto';
import { inspect } from 'node:util';
import type { Job, Queue, QueueEvents } from 'bullmq';
import type { Computation } from '../cpu/computation';
import { fromThrown } from '../support/thrown';
import { OwnPolicy, type Call } from '../cpu/policy';
import { refuseOwnCalls } from '../cpu/tasks';
import { coded } from '../support/errors';
import { clearInterval, setInterval, setTimeout } from '../support/timers';
import * as validate from '../support/validate';
import type * as api from './api';
import { jobName, pack, thrownIn, unpack, type JobData } from './job';
import { connectionOf, loadBullmq, warnOfRedis } from './load';

const OPTIONS = ['queue', 'connection', 'prefix', 'jobOptions'];
/** Seconds that a job stays whose answer nobody has taken. */
const KEPT = 3600;
/** Milliseconds between looks at jobs that nothing was heard of: the stream has a bound. */
const LOOK = 10_000;
/** That `close` waits for jobs to leave the queue: Redis may be gone. */
const FAREWELL = 1000;
/** BullMQ's own bound of the stream. */
const MOST_EVENTS = 10_000;

interface Completed {
  readonly jobId: string;
  readonly returnvalue: string;
}

/** One call of a task. */
class Pending {
  readonly id = randomUUID();
  /** It is in the queue, or further. */
  added = false;
  /** At the last look at what takes long. */
  seen = false;

  constructor(
    private readonly policy: BullmqPolicy,
    readonly computation: Computation<unknown>,
    readonly task: string,
  ) {}

  abandoned(): void {
    this.policy.giveUp(this);
  }
}

export class BullmqPolicy extends OwnPolicy implements api.BullmqPolicy {
  private readonly options: api.BullmqOptions;
  private readonly queue: Queue<JobData, string>;
  /** Events of jobs are read from here on. */
  private readonly listening: Promise<void>;
  private events: QueueEvents | undefined = undefined;
  private readonly calls = new Map<string, Pending>();
  private completed = 0;
  private looker: NodeJS.Timeout | undefined = undefined;
  private closing: Promise<void> | undefined = undefined;

  constructor(options: api.BullmqOptions) {
    super();
    this.options = check(options);
    const { Queue } = loadBullmq();
    this.queue = new Queue<JobData, string>(options.queue, this.settings);
    this.queue.on('error', warnOfRedis);
    this.listening = this.listen();
    this.listening.catch(() => undefined);
  }

  get closed(): boolean {
    return this.closing !== undefined;
  }

  override begin(computation: Computation<unknown>, { known, args }: Call): void {
    if (this.closing !== undefined) throw policyClosed();
    refuseOwnCalls(known);
    const name = jobName(known);
    const data = { args: pack(args, `The arguments of task '${known.name}'`) };
    const call = new Pending(this, computation, known.name);
    computation.worker = call;
    this.calls.set(call.id, call);
    this.looker ??= setInterval(() => this.look(), LOOK).unref();
    void this.add(call, name, data);
  }

  stats(): api.BullmqStats {
    return { pending: this.calls.size, completed: this.completed };
  }

  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  [inspect.custom](_depth: number, options: object, show: typeof inspect): string {
    const { queue } = this.options;
    return `BullmqPolicy ${show({ queue, ...this.stats(), closed: this.closed }, options)}`;
  }

  /** Nobody waits for the task any more. One that a worker has begun goes on. */
  giveUp(call: Pending): void {
    this.take(call.id);
    if (call.added) void this.remove(call.id);
  }

  private get settings() {
    const { connection, prefix } = this.options;
    return {
      connection: connectionOf(connection),
      ...(prefix === undefined ? {} : { prefix }),
    };
  }

  /** An event of our own says where the stream is: what follows is read, however late. */
  private async listen(): Promise<void> {
    await this.queue.waitUntilReady();
    const backend = this.queue.getBackend();
    const lastEventId = await backend.publishEvent({ event: 'listening' }, MOST_EVENTS);
    if (this.closing !== undefined) throw policyClosed();
    const { QueueEvents } = loadBullmq();
    this.events = new QueueEvents(this.options.queue, { ...this.settings, lastEventId });
    this.events.on('error', warnOfRedis);
    this.events.on('completed', (event: Completed) => this.fulfil(event.jobId, event.returnvalue));
    this.events.on('failed', ({ jobId, failedReason }) => void this.fail(jobId, failedReason));
    this.events.on('removed', ({ jobId }) => this.lost(jobId));
  }

  private async add(call: Pending, name: string, data: JobData): Promise<void> {
    const { jobOptions } = this.options;
    const kept = { removeOnComplete: { age: KEPT }, removeOnFail: { age: KEPT } };
    try {
      await this.listening;
      if (!this.calls.has(call.id)) return;
      await this.queue.add(name, data, { ...kept, ...jobOptions, jobId: call.id });
      call.added = true;
      // Given up meanwhile.
      if (!call.computation.pending) await this.remove(call.id);
    } catch (error) {
      this.take(call.id)?.computation.fail(error as Error);
    }
  }

  // ---- how jobs end

  private take(id: string): Pending | undefined {
    const call = this.calls.get(id);
    if (call === undefined) return undefined;
    this.calls.delete(id);
    this.completed++;
    call.computation.worker = undefined;
    if (this.calls.size === 0) this.stopLooking();
    return call;
  }

  private fulfil(id: string, answer: string): void {
    const call = this.take(id);
    if (call === undefined) return;
    this.discard(id, 'removeOnComplete');
    try {
      call.computation.fulfil(unpack(answer)[0]);
    } catch (error) {
      call.computation.fail(error as Error);
    }
  }

  private async fail(id: string, reason: string): Promise<void> {
    const call = this.take(id);
    if (call === undefined) return;
    const job = await this.queue.getJob(id).catch(() => undefined);
    this.discard(id, 'removeOnFail');
    const thrown = thrownIn(job?.data, reason);
    const error = thrown === undefined ? gone(call.task, reason) : fromThrown(thrown);
    call.computation.fail(error as Error);
  }

  private lost(id: string): void {
    const call = this.take(id);
    call?.computation.fail(gone(call.task, 'its job was removed'));
  }

  private discard(id: string, option: string): void {
    if (this.options.jobOptions?.[option] === undefined) void this.remove(id);
  }

  /** Without effect while a worker has the job. */
  private async remove(id: string): Promise<void> {
    try {
      await this.queue.remove(id);
    } catch (error) {
      if (!this.closed) warnOfRedis(error as Error);
    }
  }

  /** Whether jobs have ended without our having heard of it. */
  private look(): void {
    for (const call of this.calls.values()) {
      if (call.seen && call.added) void this.lookAt(call);
      call.seen = true;
    }
  }

  private async lookAt({ id }: Pending): Promise<void> {
    let job: Job<JobData, string> | undefined;
    try {
      job = await this.queue.getJob(id);
    } catch {
      return; // at the next look
    }
    if (job === undefined) this.lost(id);
    else if (job.finishedOn === undefined) return;
    else if (job.failedReason) await this.fail(id, job.failedReason);
    else this.fulfil(id, job.returnvalue);
  }

  private stopLooking(): void {
    clearInterval(this.looker);
    this.looker = undefined;
  }

  private async shutDown(): Promise<void> {
    const calls = [...this.calls.values()];
    const leaves = calls.filter(({ added }) => added).map(({ id }) => this.remove(id));
    for (const { id } of calls) this.take(id)?.computation.fail(policyClosed());
    if (leaves.length > 0) {
      const enough = new Promise((resolve) => setTimeout(resolve, FAREWELL));
      await Promise.race([Promise.all(leaves), enough]);
    }
    await Promise.all([this.events?.close(), this.queue.close()]);
  }
}

function check(options: api.BullmqOptions): api.BullmqOptions {
  validate.given(options);
  validate.known(options, 'options', OPTIONS);
  const { queue, connection, prefix, jobOptions } = options;
  if (validate.string(queue, 'options.queue') === '' || queue.includes(':')) {
    throw validate.invalidValue('options.queue', 'must be a name without a colon', queue);
  }
  if (typeof connection !== 'string' && (typeof connection !== 'object' || connection === null)) {
    throw validate.invalidType('options.connection', 'of type string or object', connection);
  }
  if (prefix !== undefined) validate.string(prefix, 'options.prefix');
  if (jobOptions !== undefined) validate.options(jobOptions, 'options.jobOptions');
  return { ...options };
}

function policyClosed(): Error {
  return coded(new Error('The policy is closed'), 'ERR_POLICY_CLOSED');
}

/** It has ended without an answer of the task's: its workers died with it, say. */
function gone(task: string, reason: string): Error {
  const text = `Task '${task}' has ended without an answer: ${reason}`;
  return coded(new Error(text), 'ERR_WORKER_DIED');
}

/**
 * A policy that runs tasks elsewhere, by way of a queue of BullMQ on Redis: `npx completion-port work`
 * serves them on any machine that has their modules. What a queue promises, that each job is done at
 * least once, and tried again as `jobOptions` say, is BullMQ's. Throws `ERR_PEER_MISSING` where BullMQ
 * is not installed.
 */
export function bullmq(options: api.BullmqOptions): api.BullmqPolicy {
  return new BullmqPolicy(options);
}
