/**
 * A pipeline: stages, each on its port with a small pool of threads, and the connections that move
 * between them.
 */
import { tracingChannel } from 'node:diagnostics_channel';
import { EventEmitter } from 'node:events';
import { inspect } from 'node:util';
import { binding } from '../../native/binding';
import {
  notSupported,
  abortError,
  connectionLimit,
  invalidState,
  queueFull,
  systemError,
} from '../../support/errors';
import { checkListenOptions, idleTimeoutIn, listen as openListener } from '../../handles/opening';
import { AWAIT_OPTIONS } from '../../await/operation';
import type { AwaitOptions, DriverName, ListenerAddress, Message, PortOptions } from '../../api';
import { CompletionPort } from '../../port';
import type { PortThread } from '../../thread/port-thread';
import { now, setTimeout } from '../../support/timers';
import * as validate from '../../support/validate';
import { abandonable } from '../../support/abandonable';
import { Counter, newCounters, newMeasures, summarize, type Measures } from '../record/counters';
import type * as api from '../api';
import type {
  CloseOptions,
  ConnectionDetails,
  ConnectionInfo,
  ConnectionsOptions,
  Inspector,
  InspectorOptions,
  PipelineEvents,
  PipelineOptions,
  PipelineStats,
  Stage,
  StageListenOptions,
  StageOptions,
  StageStats,
} from '../api';
import { machineOf } from '../definition/definition';
import {
  checkTargets,
  hasSubscribers,
  pipelineClosed,
  publish,
  unknownStateAsked,
  type RawFailure,
} from '../failures';
import { layOut } from '../definition/fields';
import { Frames, frameStates } from '../definition/frames';
import {
  countConnections,
  countStates,
  eachRecord,
  inspectConnection,
  listConnections,
} from '../inspector/inspect';
import { microThreadsHere, type ThreadsMicroThreads } from '../inspector/micro-threads';
import { checkStages, MOST_CONNECTIONS, stageNamed, type StageSpecification } from './options';
import { StageListener } from './listener';
import { Refusals } from './refusals';
import { deferred, Pool, tornDown, type Loaded } from './pool';
import { Setup } from './setup';
import { Header, LISTENER, Records } from '../record/record';
import { checkKept, slotsOf, Trace } from '../record/trace';
import { publishTo, type Published } from '../record/publish';
import { Runner } from '../run/runner';
import { Control, type Plan, type StageInfo } from '../definition/plan';
import { StageThread, withTrace } from '../run/thread';

/** A stage with what the pipeline has for it. */
interface Site {
  readonly name: string;
  readonly specification: StageSpecification;
  readonly port: CompletionPort;
  readonly pool: Pool | undefined;
  readonly counters: Float64Array;
  readonly measures: Measures;
  readonly listeners: Set<StageListener>;
  /** From its first listener on. */
  refusals: Refusals | undefined;
  /** Of a native stage, once it runs. */
  frames: Frames | undefined;
  /** Of a stage that runs here, from its `setup` on. */
  teardown: (() => Promise<void>) | undefined;
}

const enum Phase {
  Starting,
  Open,
  Closing,
  Closed,
}

/** Names of the options of a pipeline. */
const known = ['driver', 'maxConnections', 'buffers', 'memoryLimit', 'trace'];
/** How often connections are looked at while the pipeline waits for their end, in milliseconds. */
const LOOK = 10;
/** What handlers have for ending when the pipeline closes, beyond `grace`. */
const GRACE = 2000;

const listening = tracingChannel('completion-port:stage:listen');

/** As much as one view of the records' memory can show in every version of Node.js. */
const MOST_RECORD_BYTES = 2 ** 32;

/** Why `listen` of a pipeline does not take what `port.listen` does. */
const OF_KEYED = "is the pipeline's own: connections of stages have keys by themselves";

/** The Pipeline of lib/stage/api.ts. */
export class Pipeline extends EventEmitter<PipelineEvents> implements api.Pipeline {
  /** Whether it is open: as soon as it closes, whatever it waits for, it is not. */
  private readonly opening = deferred<void>();
  private readonly sites: Site[] = [];
  private readonly limit: number;
  /** Events of each connection. */
  private readonly kept: number;
  private readonly control = new SharedArrayBuffer(4 * Control.COUNT);
  private phase = Phase.Starting;
  private recordsId = 0;
  private plan: Plan | undefined = undefined;
  private records: Records | undefined = undefined;
  private trace: Trace | undefined = undefined;
  private readonly inspectors: Inspector[] = [];
  private closing: Promise<void> | undefined = undefined;
  /** Whether it keeps the process alive. */
  private holds = true;

  constructor(stages: Readonly<Record<string, StageOptions>>, options: PipelineOptions = {}) {
    super();
    const specifications = checkStages(stages);
    validate.options(options);
    validate.known(options, 'options', known);
    const { maxConnections = 65536, trace = 0 } = options;
    this.limit = validate.bound(maxConnections, 'options.maxConnections', 1, MOST_CONNECTIONS);
    this.kept = checkKept(trace, this.limit);
    try {
      for (const specification of specifications)
        this.sites.push(this.site(specification, options));
    } catch (error) {
      void this.abandon();
      throw error;
    }
    void this.open();
  }

  get stages(): readonly string[] {
    return this.sites.map((site) => site.name);
  }

  get driver(): DriverName {
    return this.sites[0]!.port.driver;
  }

  get closed(): boolean {
    return this.phase >= Phase.Closing;
  }

  async ready(options: AwaitOptions = {}): Promise<void> {
    validate.options(options);
    validate.known(options, 'options', AWAIT_OPTIONS);
    this.assertOpen();
    return abandonable(this.opening.promise, 'ready', options);
  }

  async listen(stage: string, options: StageListenOptions): Promise<StageListener> {
    const site = stageNamed(this.sites, stage);
    checkListenOptions(options);
    for (const name of ['key', 'asyncResource']) {
      if (name in options) throw validate.invalidValue(`options.${name}`, OF_KEYED, options);
    }
    if (options.type === 'seqpacket') throw withoutBorders();
    if (options.fd !== undefined && site.specification.native !== undefined) {
      throw notSupported('listen', 'a native stage opens its listeners itself, and takes no fd');
    }
    const begin = (): Promise<StageListener> =>
      abandonable(this.listenAt(site, options), 'listen', options, (late) => void late.close());
    if (!listening.hasSubscribers) return begin();
    return listening.tracePromise(begin, { pipeline: this, stage, options });
  }

  private async listenAt(site: Site, options: StageListenOptions): Promise<StageListener> {
    const { signal } = options;
    await this.opening.promise;
    this.assertOpen();
    if (signal?.aborted) throw abortError(signal.reason);
    const id = await (site.frames?.listen(site.port.thread, options) ??
      this.listenHere(site, options));
    const { thread: portThread } = site.port;
    const address = portThread.native.address(id, false) as ListenerAddress;
    const listener = new StageListener(portThread, id, address, (over) =>
      site.listeners.delete(over),
    );
    site.listeners.add(listener);
    site.refusals ??= new Refusals(this, site.name, portThread);
    const { maxConnections = Infinity } = options;
    if (maxConnections !== Infinity) portThread.native.mostConnections(id, maxConnections);
    const idleTimeout = idleTimeoutIn(options);
    if (idleTimeout > 0) portThread.native.idleTimeout(id, idleTimeout);
    if (signal !== undefined) listener.closeOn(signal);
    if (this.closed) void listener.close();
    return listener;
  }

  /** The handle of a listener that one of the stage's threads takes up. */
  private async listenHere(site: Site, options: StageListenOptions): Promise<number> {
    const { thread: portThread } = site.port;
    const setUp = { ...options, signal: undefined, timeout: undefined, key: LISTENER };
    const handle = await openListener(portThread, setUp, false);
    handle.unref(); // the pipeline keeps the process alive
    const { id } = handle;
    if (portThread.native.handleInfo(id)?.messages === true) {
      handle.closeQuietly();
      throw withoutBorders();
    }
    portThread.flush();
    // One of the stage's threads takes it up with this packet.
    const result = portThread.native.handOff(id, portThread.native.portId, LISTENER);
    if (result < 0) throw systemError(result, 'listen', { net: true });
    return id;
  }

  start(stage: string, ...given: [] | [message: Message]): number {
    this.assertReady();
    const site = stageNamed(this.sites, stage);
    if (site.specification.native !== undefined) {
      throw validate.invalidValue('stage', 'is a native one, which has no tasks', stage);
    }
    const message = validate.message(given);
    const { thread: portThread } = site.port;
    const key = binding.createRecord(this.recordsId, portThread.native.portId);
    if (key === 0) throw connectionLimit();
    let posted = false;
    try {
      posted = portThread.postMessage(key, message);
    } finally {
      if (!posted) portThread.native.releaseRecord(key);
    }
    if (!posted) throw portThread.refusal();
    return key;
  }

  post(key: number, ...given: [] | [message: Message]): void {
    const result = this.deliver(key, given);
    if (result === undefined) throw connectionGone(key);
    if (!result) throw queueFull();
  }

  tryPost(key: number, ...given: [] | [message: Message]): boolean {
    return this.deliver(key, given) ?? false;
  }

  publish(keys: Uint32Array | readonly number[], message: Message): number {
    const { count, full } = this.publishTo(keys, message);
    if (full) throw queueFull();
    return count;
  }

  tryPublish(keys: Uint32Array | readonly number[], message: Message): boolean {
    return !this.publishTo(keys, message).full;
  }

  stats(): PipelineStats {
    this.assertUsable();
    const states = this.records === undefined ? [] : countStates(this.records, this.plan!.stages);
    const all = this.sites.map((site, index) => [site.name, statsOf(site, states[index])] as const);
    const sum = (pick: (stats: StageStats) => number): number =>
      all.reduce((total, [, stats]) => total + pick(stats), 0);
    return {
      stages: Object.fromEntries(all),
      connections: this.records === undefined ? 0 : countConnections(this.records),
      refused: sum((stats) => stats.refused),
      restarts: sum((stats) => stats.restarts),
    };
  }

  connections(options: ConnectionsOptions = {}): ConnectionInfo[] {
    this.assertUsable();
    validate.options(options);
    validate.known(options, 'options', ['stage', 'state', 'limit']);
    const { stage, state, limit = MOST_CONNECTIONS } = options;
    if (stage !== undefined) stageNamed(this.sites, stage);
    if (state !== undefined) validate.string(state, 'options.state');
    validate.bound(limit, 'options.limit', 0, MOST_CONNECTIONS);
    if (this.records === undefined) return [];
    if (state !== undefined) this.checkState(stage, state);
    const remote = (handle: number): string | undefined => this.remote(handle);
    return listConnections(this.records, this.plan!.stages, remote, { stage, state, limit });
  }

  inspect(key: number): ConnectionDetails | undefined {
    this.assertUsable();
    validate.u32(key, 'key');
    if (this.records === undefined) return undefined;
    const remote = (handle: number): string | undefined => this.remote(handle);
    return inspectConnection(this.records, this.trace, this.plan!.stages, remote, key);
  }

  async inspector(options: InspectorOptions = {}): Promise<Inspector> {
    this.assertOpen();
    validate.options(options);
    const begin = this.startInspector(options);
    return abandonable(begin, 'inspector', options, (late) => void late.close());
  }

  private async startInspector(options: InspectorOptions): Promise<Inspector> {
    // Loads a web server: only for those who ask for one.
    const { startInspector } = await import('../inspector/inspector.js');
    const inspector = await startInspector(
      {
        stats: () => this.stats(),
        connections: () => this.connections(),
        inspect: (key) => this.inspect(key),
        microThreads: () => this.microThreads(),
      },
      options,
    );
    this.inspectors.push(inspector);
    if (!this.closed) return inspector;
    await inspector.close();
    throw pipelineClosed();
  }

  /** Of this thread, and of those of the pools. */
  private async microThreads(): Promise<ThreadsMicroThreads[]> {
    const own = { thread: 'the pipeline', ...microThreadsHere() };
    const pools = this.sites.map(async ({ name, pool }) => {
      const found = (await pool?.microThreads()) ?? [];
      return found.map((threads, index) => ({ thread: `${name} ${index}`, ...threads }));
    });
    return [own, ...(await Promise.all(pools)).flat()];
  }

  /** Throws for a state that none of the stages, or this one, has. Empty: of those not begun. */
  private checkState(stage: string | undefined, state: string): void {
    const looked = this.plan!.stages.filter(({ name }) => stage === undefined || name === stage);
    const known = looked.flatMap(({ states }) => states);
    if (state === '' || known.includes(state)) return;
    throw unknownStateAsked(state, stage, known);
  }

  close(options: CloseOptions = {}): Promise<void> {
    validate.options(options);
    validate.known(options, 'options', ['grace']);
    const { grace: given = 0 } = options;
    const grace =
      given === Infinity ? given : validate.integer(given, 'options.grace', 0, 2 ** 31 - 1);
    this.closing ??= this.shutDown(grace);
    return this.closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  ref(): this {
    return this.hold(true);
  }

  unref(): this {
    return this.hold(false);
  }

  hasRef(): boolean {
    return this.holds && this.phase !== Phase.Closed;
  }

  private hold(holds: boolean): this {
    this.holds = holds;
    for (const { port, pool } of this.sites) {
      port.thread.holdAtAll(holds);
      pool?.hold(holds);
    }
    return this;
  }

  [inspect.custom](_depth: number, options: object, show: typeof inspect): string {
    return `Pipeline ${show(this.toJSON(), options)}`;
  }

  toJSON(): object {
    const state = ['starting', 'open', 'closing', 'closed'][this.phase];
    const connections = this.records === undefined ? 0 : countConnections(this.records);
    return { state, stages: this.stages, connections };
  }

  // ---- starting

  private site(specification: StageSpecification, options: PipelineOptions): Site {
    const { name, index } = specification;
    const port = new CompletionPort(portOptions(specification, options));
    port.thread.leaveToOthers();
    const measures = newMeasures();
    const own = {
      counters: newCounters(),
      measures,
      listeners: new Set<StageListener>(),
      refusals: undefined,
      frames: undefined,
      teardown: undefined,
    };
    const base = { name, specification, port, ...own };
    if (specification.threads === 0 || specification.native !== undefined) {
      return { ...base, pool: undefined };
    }
    const pool = new Pool({
      stage: name,
      index,
      port,
      threads: specification.threads,
      module: specification.module,
      data: specification.data,
      cpus: specification.pin ? binding.allowedCpus() : [],
      byState: specification.order === 'state',
      onFailure: (failure) => this.failed(failure),
      onDeath: (thread, error) => this.emit('threadExit', { stage: name, index: thread, error }),
      onBroken: (error) => this.broken(error),
    });
    return { ...base, pool };
  }

  private async open(): Promise<void> {
    try {
      const loaded = await Promise.all(this.sites.map((site) => loadedOf(site)));
      if (this.closed) return;
      await this.begin(loaded);
      if (this.closed) return;
      this.phase = Phase.Open;
      this.opening.resolve();
    } catch (error) {
      this.opening.reject(error as Error);
      if (!this.closed) this.close().catch(ignored);
    }
  }

  /** All stages are known: their records get a layout, and their threads begin. */
  private async begin(loaded: readonly Loaded[]): Promise<void> {
    loaded.forEach(({ targets }, index) =>
      checkTargets(this.sites[index]!.name, targets, this.stages),
    );
    const layout = layOut(
      loaded.map(({ fields }, index) => ({ stage: this.sites[index]!.name, fields })),
    );
    const most = Math.floor((MOST_RECORD_BYTES - 1) / layout.stride);
    if (this.limit > most) {
      const about = `at most ${most}, with records of ${layout.stride} bytes each`;
      throw validate.outOfRange('options.maxConnections', about, this.limit);
    }
    const records = binding.createRecords(this.limit, layout.stride, slotsOf(this.kept));
    if (records < 0) throw systemError(records, 'mmap', {});
    this.recordsId = records;
    const stages = this.sites.map(({ name, port }, index): StageInfo => {
      const { states } = loaded[index]!;
      const settings = this.sites[index]!.specification.native;
      const [native, pipelined] = [settings !== undefined, (settings?.pipelined ?? 1) > 1];
      return { name, index, port: port.thread.native.portId, states, native, pipelined };
    });
    this.plan = { stages, layout, trace: this.kept, records, control: this.control };
    this.records = new Records(binding.recordMemory(records), layout.stride);
    const rings = binding.traceMemory(records);
    if (rings !== undefined) this.trace = new Trace(rings, this.kept);
    await Promise.all(this.sites.map((site) => this.run(site, this.plan!)));
  }

  private async run(site: Site, plan: Plan): Promise<void> {
    site.port.thread.native.useRecords(plan.records);
    // While the only thread of a pool is being replaced, what it had begun is this thread's to do.
    site.port.thread.schedule();
    if (site.pool !== undefined) return site.pool.run(plan);
    const { native, next, index, threads, pin } = site.specification;
    if (native !== undefined) {
      const cpus = pin ? binding.allowedCpus() : [];
      const [own, following] = [plan.stages[index]!, plan.stages[next]!];
      const nextThreads = Math.max(1, this.sites[next]!.specification.threads);
      const pool = { records: plan.records, threads, nextThreads, cpus };
      site.frames = new Frames(native, own, following, pool);
      return;
    }
    const machine = machineOf(site.specification.here)!;
    const context = { port: site.port, stage: site.name, thread: 0 };
    const setup = new Setup(machine, context);
    let thread: StageThread | undefined = undefined;
    site.teardown = async () => {
      await thread?.generators.end();
      await setup.end();
    };
    await setup.done;
    if (this.closed) return;
    thread = new StageThread({
      port: site.port,
      machine,
      plan,
      index,
      number: 0,
      memory: this.records!.memory,
      traceMemory: binding.traceMemory(plan.records),
      counters: site.counters,
      measures: site.measures,
      byState: site.specification.order === 'state',
      wantsFailures: () => this.listenerCount('failed') > 0,
      onFailure: (failure) => this.emit('failed', withTrace(failure, plan.stages)),
    });
    new Runner(thread, () => undefined);
  }

  // ---- while it runs

  private deliver(key: number, given: [] | [message: Message]): boolean | undefined {
    this.assertReady();
    validate.u32(key, 'key');
    const message = validate.message(given);
    const records = this.records!;
    if (!records.live(key)) return undefined;
    const id = records.words[(records.offset(key) + Header.PORT) >>> 2]!;
    return this.siteAt(id)?.port.thread.postMessage(key, message);
  }

  private publishTo(keys: unknown, message: Message): Published {
    this.assertReady();
    const { thread } = this.sites[0]!.port;
    const threadOf = (port: number): PortThread | undefined => this.siteAt(port)?.port.thread;
    return publishTo(this.records!, keys, message, thread, threadOf);
  }

  private siteAt(portId: number): Site | undefined {
    return this.sites.find(({ port }) => port.thread.native.portId === portId);
  }

  /** Of a worker, whose own subscribers know already. */
  private failed(raw: RawFailure): void {
    const [here, there] = [hasSubscribers(), this.listenerCount('failed') > 0];
    if (!here && !there) return;
    const failure = withTrace(raw, this.plan!.stages);
    if (here) publish(failure);
    if (there) this.emit('failed', failure);
  }

  private broken(error: Error): void {
    if (this.closed) return;
    this.close().catch(ignored);
    this.emit('error', error);
  }

  private remote(handle: number): string | undefined {
    const address = this.sites[0]!.port.thread.native.address(handle, true);
    if (typeof address === 'number') return undefined;
    const host = address.family === 'IPv6' ? `[${address.address}]` : address.address;
    return `${host}:${address.port}`;
  }

  private assertOpen(): void {
    if (this.closed) throw pipelineClosed();
  }

  private assertReady(): void {
    this.assertOpen();
    if (this.phase === Phase.Open) return;
    throw invalidState('The pipeline is not ready yet: await pipeline.ready() before');
  }

  private assertUsable(): void {
    if (this.phase === Phase.Closed) throw pipelineClosed();
  }

  // ---- ending

  private async shutDown(grace: number): Promise<void> {
    this.phase = Phase.Closing;
    this.opening.reject(pipelineClosed());
    this.ref(); // whoever waits for it is to see its end
    this.stopListening();
    for (const site of this.sites) site.frames?.endConnections();
    await this.empty(grace);
    Atomics.store(new Int32Array(this.control), Control.Closing, 1);
    for (const site of this.sites) site.frames?.closeConnections();
    await this.empty(GRACE, () => this.closeConnections());
    await Promise.all(this.inspectors.map((inspector) => inspector.close()));
    const failures = await this.abandon();
    if (this.recordsId !== 0) binding.closeRecords(this.recordsId);
    this.phase = Phase.Closed;
    this.emit('close');
    if (failures.length > 0) throw failures[0]!;
  }

  private stopListening(): void {
    for (const site of this.sites) {
      site.frames?.stopListening();
      for (const listener of site.listeners) void listener.close();
    }
  }

  /** Resolves when there is no connection left, or `limit` milliseconds have passed. */
  private async empty(limit: number, meanwhile?: () => void): Promise<void> {
    const end = now() + limit;
    while (this.records !== undefined && countConnections(this.records) > 0) {
      if (now() >= end) return;
      meanwhile?.();
      await new Promise((resolve) => setTimeout(resolve, LOOK));
    }
  }

  /** A message to each: whoever takes it closes the connection. Again until each has taken it. */
  private closeConnections(): void {
    const { records } = this;
    const threads = new Map(this.sites.map(({ port }) => [port.thread.native.portId, port.thread]));
    eachRecord(records!, (at, key) => {
      threads.get(records!.words[(at + Header.PORT) >>> 2]!)?.post(key, 0);
    });
  }

  /** Whatever is left goes with the threads and the ports. What the stages' `teardown` threw. */
  private async abandon(): Promise<Error[]> {
    const left = await Promise.allSettled(this.sites.map((site) => leave(site)));
    for (const site of this.sites) site.frames?.close();
    await Promise.all(this.sites.map((site) => site.port.close()));
    return left.flatMap((one) => (one.status === 'rejected' ? [one.reason as Error] : []));
  }
}

/** Something else went wrong before, and is told. */
function withoutBorders(): Error {
  return notSupported('listen', 'connections of stages are streams, without borders of messages');
}

function ignored(): void {
  // A `teardown` failed as well.
}

async function leave(site: Site): Promise<void> {
  await site.pool?.leave();
  if (site.teardown !== undefined) await tornDown(site.name, site.teardown());
}

function portOptions(stage: StageSpecification, options: PipelineOptions): PortOptions {
  return {
    driver: options.driver,
    buffers: options.buffers,
    memoryLimit: options.memoryLimit,
    concurrency: stage.concurrency,
    dispatch: stage.dispatch,
    queueLimit: stage.queue,
  };
}

function loadedOf(site: Site): Promise<Loaded> {
  if (site.pool !== undefined) return site.pool.loaded();
  if (site.specification.native !== undefined) {
    return Promise.resolve({ fields: {}, states: frameStates, targets: undefined });
  }
  const { record, states } = site.specification.here as Stage;
  return Promise.resolve({ fields: record, states, targets: undefined });
}

function statsOf(site: Site, states: Readonly<Record<string, number>> = {}): StageStats {
  const { pool, counters, measures } = site;
  const port = site.port.stats();
  const frames = site.frames?.stats();
  const count = (counter: Counter): number => pool?.sum(counter) ?? counters[counter]!;
  return {
    threads: pool?.threads ?? Math.max(1, site.specification.threads),
    running: port.running,
    waiting: port.waiting,
    queueDepth: port.queueDepth,
    connections: Object.values(states).reduce((sum, number) => sum + number, 0),
    states,
    packets: frames?.packets ?? count(Counter.Packets),
    arrived: count(Counter.Arrived),
    documents: count(Counter.Documents),
    handedOff: frames?.documents ?? count(Counter.HandedOff),
    closed: count(Counter.Closed),
    failures: frames?.failed ?? count(Counter.Failures),
    restarts: pool?.restarts ?? 0,
    refused: port.refused,
    queueing: summarize(pool?.queueing() ?? [measures.queueing]),
    handling: summarize(pool?.handling() ?? [measures.handling]),
    port,
    frames,
  };
}

function connectionGone(key: number): Error {
  return Object.assign(new Error(`There is no connection ${key}, or no longer`), {
    code: 'ERR_CONNECTION_GONE',
  });
}
