/**
 * Child processes: every contestant is one, and so is every client.
 */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { bound } from './affinity.mjs';
import { nativeProgram } from './build.mjs';

export const contestants = fileURLToPath(new URL('./contestants/', import.meta.url));
const GRACE = 5000;
const STARTING = 20_000;

const alive = new Set();
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL');
});

/** What keeps a row from being measured here; not a failure. */
export class NotMeasured extends Error {}

/** The options that are set, as arguments: a name and its value are one, or with a blank two. */
function flags(options, separator) {
  return Object.entries(options)
    .filter(([, value]) => value !== undefined && value !== false)
    .flatMap(([name, value]) => {
      if (value === true) return [`--${name}`];
      return separator === ' ' ? [`--${name}`, `${value}`] : [`--${name}=${value}`];
    });
}

/** A contestant written in JavaScript; `folder`: one with the contestants on another checkout. */
export function script(name, options = {}, folder = contestants) {
  return {
    command: [process.execPath, '--expose-gc', path.join(folder, name), ...flags(options, '=')],
    answers: true,
  };
}

/** A program of bench/native. */
export function native(name, options = {}) {
  const file = nativeProgram(name);
  if (file === undefined) throw new NotMeasured(`bench/native has no ${name}`);
  return { command: [file, ...flags(options, ' ')], answers: false };
}

/** A program of the system. */
export function tool(...command) {
  return { command, answers: false };
}

class Child {
  #process;
  #errors = '';
  #lines;

  constructor({ command, answers, env }, role) {
    const [file, ...args] = bound(role, command);
    this.#process = spawn(file, args, {
      // The client's end of a pipe tells `hold` and its like when to go.
      stdio: ['pipe', 'pipe', 'pipe', ...(answers ? ['ipc'] : [])],
      env: { ...process.env, LC_ALL: 'C', NODE_NO_WARNINGS: '1', ...env },
    });
    const child = this.#process;
    alive.add(child);
    child.stdin.on('error', () => undefined);
    child.stderr.setEncoding('utf8').on('data', (text) => {
      this.#errors = (this.#errors + text).slice(-4000);
    });
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    this.exited = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => resolve(code ?? signal));
    }).finally(() => alive.delete(child));
    this.exited.catch(() => undefined);
  }

  get pid() {
    return this.#process.pid;
  }

  /** The next line of its output, as JSON; undefined at its end. */
  async line() {
    const { value } = await this.#lines.next();
    return value === undefined ? undefined : JSON.parse(value);
  }

  /** The rest of its output. */
  async text() {
    const lines = [];
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) return lines.join('\n');
      lines.push(value);
    }
  }

  /** Complete when it has ended. */
  get errors() {
    return this.#errors;
  }

  onOutput(listener) {
    this.#process.stdout.once('data', listener);
  }

  ask(question) {
    return new Promise((resolve, reject) => {
      this.#process.once('message', resolve);
      this.exited.then(() => reject(this.failure('ended')), reject);
      this.#process.send(question);
    });
  }

  endInput() {
    this.#process.stdin.end();
  }

  kill(signal) {
    this.#process.kill(signal);
  }

  failure(what) {
    const [file, ...args] = this.#process.spawnargs.map((word) => path.basename(word));
    const errors = this.#errors.trim().split('\n').slice(-6).join('\n');
    return new Error(`${file} ${args.join(' ')}: ${what}${errors && `\n${errors}`}`);
  }
}

/** Rejects, and kills the child, when it takes too long. */
async function within(milliseconds, child, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(child.failure(`no end after ${milliseconds / 1000} s`));
    }, milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Starts a program that says, in its first line, that it is ready. */
export async function start(program, role) {
  const child = new Child(program, role);
  const ready = await within(STARTING, child, child.line());
  if (ready === undefined) throw child.failure(`ended with ${await child.exited}`);
  if (ready.notMeasured !== undefined) {
    await child.exited;
    throw new NotMeasured(ready.notMeasured);
  }
  return {
    ready,
    port: ready.port,
    pid: child.pid,
    pids: ready.pids ?? [child.pid],
    answers: program.answers,
    ask: (question) => within(STARTING, child, child.ask(question)),
    /** Ends it; resolves to its last words, if any. Throws when it had failed. */
    async stop() {
      child.endInput();
      child.kill('SIGTERM');
      const output = await within(GRACE, child, child.text());
      const code = await within(GRACE, child, child.exited);
      if (code !== 0) throw child.failure(`ended with ${code}`);
      return output === '' ? undefined : JSON.parse(output);
    },
    kill: () => child.kill('SIGKILL'),
  };
}

/** Runs a program to its end; resolves to the last line of its output, which is JSON. */
export async function run(program, options) {
  const { output } = await capture(program, options);
  const result = JSON.parse(output.split('\n').at(-1));
  if (result.notMeasured !== undefined) throw new NotMeasured(result.notMeasured);
  return result;
}

/**
 * Runs a program to its end; resolves to what it wrote: `{ output, errors }`. `onOutput` is called as
 * soon as it has written something.
 */
export async function capture(program, { role, seconds = 60, onOutput } = {}) {
  const child = new Child(program, role);
  if (onOutput) child.onOutput(onOutput);
  const text = within(seconds * 1000, child, child.text());
  const code = await within(seconds * 1000, child, child.exited);
  if (code !== 0) throw child.failure(`ended with ${code}`);
  return { output: await text, errors: child.errors };
}
