/**
 * Serves the tasks of a queue: what `npx completion-port work` does. Tasks run in a pool of threads, so
 * that BullMQ hears, while they compute, that the process lives. Only tasks of the modules that it was
 * started with are run, whatever a job names.
 */
import path = require('node:path');
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';
import type { Job, Worker } from 'bullmq';
import { pool } from '../cpu/pool';
import type { Pool } from '../cpu/api';
import { allTasks, importModule, taskOf, type Known } from '../cpu/tasks';
import { coded } from '../support/errors';
import { failureOf, jobName, pack, unpack, type JobData } from './job';
import { connectionOf, loadBullmq, warnOfRedis } from './load';

export interface ServeOptions {
  readonly queue: string;
  readonly connection: string | object;
  readonly prefix: string | undefined;
  /** Paths. */
  readonly modules: readonly string[];
  /** Tasks at one time, each in a thread of its own. */
  readonly concurrency: number;
  /** Milliseconds after which a process that does not say that it lives has lost its tasks. */
  readonly lockDuration: number;
}

export class Service {
  private readonly tasks: Map<string, Known>;
  private readonly pool: Pool;
  private readonly worker: Worker<JobData, string>;

  private constructor(options: ServeOptions, tasks: Map<string, Known>) {
    const { queue, connection, prefix, concurrency, lockDuration } = options;
    const { Worker } = loadBullmq();
    this.tasks = tasks;
    this.pool = pool({ threads: concurrency, name: queue });
    this.worker = new Worker<JobData, string>(queue, (job) => this.run(job), {
      ...{ concurrency, lockDuration, stalledInterval: lockDuration },
      connection: connectionOf(connection),
      ...(prefix === undefined ? {} : { prefix }),
    });
    this.worker.on('error', warnOfRedis);
  }

  /** Resolves when jobs may come. */
  static async start(options: ServeOptions): Promise<Service> {
    loadBullmq(); // its absence is told before a module is blamed
    for (const module of options.modules) {
      await importModule(pathToFileURL(path.resolve(module)).href, `The module ${module}`);
    }
    const service = new Service(options, tasksByName());
    await service.worker.waitUntilReady();
    return service;
  }

  get names(): string[] {
    return [...this.tasks.keys()];
  }

  /** Takes no more jobs; resolves when those that it has are done. */
  async close(): Promise<void> {
    await this.worker.close();
    await this.pool.close();
  }

  private async run(job: Job<JobData, string>): Promise<string> {
    try {
      const known = this.tasks.get(job.name);
      if (known === undefined) throw notServed(job.name, this.names);
      const args = unpack(job.data.args) as never;
      const value: unknown = await this.pool.apply(taskOf(known), args);
      return pack([value], `The result of task '${known.name}'`);
    } catch (thrown) {
      const error = asError(thrown);
      // For whoever waits: BullMQ keeps the message alone.
      const failure = failureOf(thrown, error.message);
      await job.updateData({ args: job.data.args, failure }).catch(warnOfRedis);
      throw error;
    }
  }
}

/** A task may throw anything. */
function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(inspect(thrown));
}

function tasksByName(): Map<string, Known> {
  const tasks = new Map<string, Known>();
  for (const known of allTasks()) {
    const name = jobName(known);
    const other = tasks.get(name);
    if (other !== undefined) {
      const text = `Both ${other.module} and ${known.module} define ${name}`;
      throw coded(new Error(text), 'ERR_TASK_MODULE');
    }
    tasks.set(name, known);
  }
  if (tasks.size > 0) return tasks;
  throw coded(new Error('The modules define no tasks'), 'ERR_TASK_MODULE');
}

function notServed(name: string, names: readonly string[]): Error {
  const text = `No task ${name} is served here: there are ${names.join(', ')}`;
  return coded(new Error(text), 'ERR_TASK_MODULE');
}
