#!/usr/bin/env node
/**
 * The command `completion-port`.
 */
import { parseArgs } from 'node:util';
import { diagnose } from './doctor/diagnosis';
import type { Diagnosis } from './doctor/findings';
import { libraryVersion } from './doctor/facts';
import { report } from './doctor/report';

const USAGE = `Usage: completion-port doctor [--json]
       completion-port work --queue NAME --redis URL [options] MODULE...

doctor tells whether the library works here, with which driver and why, and what would make it
better. work serves the tasks of modules to those who call them by way of BullMQ on Redis, until
SIGTERM or SIGINT.

Options of doctor:
  --json             the same as JSON
Options of work:
  --queue NAME       the queue of BullMQ
  --redis URL        where Redis is
  --concurrency N    tasks at one time, each in a thread (default: the CPUs of the process)
  --prefix TEXT      what BullMQ's keys begin with (default: bull)
  --lock-duration N  milliseconds after which a process that does not say that it lives has lost
                     its tasks, which others do then (default: 30000)
Options of both:
  -h, --help         this text
  -v, --version      the version of the library

Exit code of doctor: 0 it works, 1 it works with a fallback driver, 2 it does not work.
Exit code of work: 0 it was told to end, and its tasks were done, 1 it can't begin, or was told
twice. 64: this command was called wrongly.`;

/** As sysexits.h has it; apart from the answers of the doctor. */
const WRONG_USAGE = 64;

const EXIT_CODES: Record<Diagnosis['status'], number> = { good: 0, fallback: 1, broken: 2 };

const common = {
  help: { type: 'boolean', short: 'h', default: false },
  version: { type: 'boolean', short: 'v', default: false },
} as const;

/** What the command itself is wrong about; all else is a failure of what it does. */
class UsageError extends Error {}

function read<T extends NonNullable<Parameters<typeof parseArgs>[0]>['options']>(own: T) {
  try {
    return parseArgs({ allowPositionals: true, options: { ...common, ...own } });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** Whether there is no more to do than to answer that. */
function answers(values: { readonly help?: unknown; readonly version?: unknown }): boolean {
  if (values.help === true) console.log(USAGE);
  else if (values.version === true) console.log(libraryVersion());
  else return false;
  return true;
}

async function doctor(): Promise<number> {
  const { values, positionals } = read({ json: { type: 'boolean', default: false } });
  if (answers(values)) return 0;
  if (positionals.length > 1) throw new UsageError(`no command '${positionals.join(' ')}'`);
  const diagnosis = await diagnose();
  console.log(values.json ? JSON.stringify(diagnosis, undefined, 2) : report(diagnosis));
  return EXIT_CODES[diagnosis.status];
}

const ofWork = {
  queue: { type: 'string' },
  redis: { type: 'string' },
  concurrency: { type: 'string' },
  prefix: { type: 'string' },
  'lock-duration': { type: 'string', default: '30000' },
} as const;

async function work(): Promise<number> {
  const { values, positionals } = read(ofWork);
  if (answers(values)) return 0;
  const { queue, redis: connection, concurrency, prefix } = values;
  const [, ...modules] = positionals;
  if (queue === undefined) throw new UsageError('work needs --queue');
  if (connection === undefined) throw new UsageError('work needs --redis');
  if (modules.length === 0) throw new UsageError('work needs a module');
  const options = {
    ...{ queue, connection, prefix, modules },
    concurrency: whole('concurrency', concurrency ?? String(await cpus()), 256),
    lockDuration: whole('lock-duration', values['lock-duration'], 2 ** 31 - 1),
  };
  const { Service } = await import('./bullmq/serve.js');
  const service = await Service.start(options);
  console.log(`serving ${service.names.join(', ')} of queue ${queue}`);
  await told();
  await service.close();
  return 0;
}

/** The binary is loaded by those who need it: the doctor tells where there is none. */
async function cpus(): Promise<number> {
  const { binding } = await import('./native/binding.js');
  return Math.min(256, binding.availableParallelism());
}

function whole(name: string, text: string, most: number): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number >= 1 && number <= most) return number;
  throw new UsageError(`--${name} takes a number from 1 to ${most}`);
}

/** Resolves at the first signal. Who gives a second one does not want to wait. */
function told(): Promise<void> {
  return new Promise((resolve) => {
    let before = false;
    const heard = (): void => {
      if (before) process.exit(1);
      before = true;
      resolve();
    };
    process.on('SIGTERM', heard);
    process.on('SIGINT', heard);
  });
}

const commands: Record<string, () => Promise<number>> = { doctor, work };

async function main(): Promise<number> {
  const command = process.argv.slice(2).find((text) => !text.startsWith('-')) ?? '';
  if (Object.hasOwn(commands, command)) return commands[command]!();
  const { values, positionals } = read({ json: { type: 'boolean', default: false } });
  if (answers(values)) return 0;
  throw new UsageError(
    positionals.length === 0 ? 'no command is given' : `no command '${positionals.join(' ')}'`,
  );
}

function failed(error: unknown): number {
  const { message } = error as Error;
  if (!(error instanceof UsageError)) {
    console.error(`completion-port: ${message}`);
    return 1;
  }
  console.error(`completion-port: ${message}\n\n${USAGE}`);
  return WRONG_USAGE;
}

void main()
  .catch(failed)
  .then((code) => {
    process.exitCode = code;
  });
