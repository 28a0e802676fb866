/**
 * What the kernel knows of a process: the CPU time it took, the memory it holds.
 */
import fs from 'node:fs';

/** Nanoseconds on a CPU, of all its threads: finer than the ticks of /proc/PID/stat. */
function scheduledTime(pid) {
  let sum = 0n;
  for (const thread of fs.readdirSync(`/proc/${pid}/task`)) {
    try {
      const [time] = fs.readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ');
      sum += BigInt(time);
    } catch (error) {
      // A thread that has just ended; the kernel without CONFIG_SCHED_INFO has none of the files.
      if (error.code !== 'ENOENT' && error.code !== 'ESRCH') throw error;
    }
  }
  return Number(sum / 1000n);
}

function accountedTime(pid) {
  const line = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  const TICK = 10_000;
  return (Number(fields[11]) + Number(fields[12])) * TICK;
}

/** User and system time of a process in microseconds. */
export function cpuTime(pid) {
  return scheduledTime(pid) || accountedTime(pid);
}

/** Bytes of a process that are in memory. */
export function residentBytes(pid) {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)[1]) * 1024;
}

const SAMPLED_EVERY = 50;

/** The CPU time of processes as time goes by. */
export class CpuHistory {
  #pids;
  #samples = [];
  #timer;

  constructor(...pids) {
    this.#pids = pids;
    this.#sample();
    this.#timer = setInterval(() => this.#sample(), SAMPLED_EVERY);
  }

  stop() {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#sample();
  }

  /** Microseconds used in the last so many seconds before `stop`. */
  last(seconds) {
    const end = this.#samples.at(-1);
    const from = end.now - seconds * 1000;
    const next = this.#samples.findIndex(({ now }) => now >= from);
    if (next < 1) return NaN;
    const [before, after] = this.#samples.slice(next - 1, next + 1);
    const share = (from - before.now) / (after.now - before.now);
    return end.cpu - (before.cpu + share * (after.cpu - before.cpu));
  }

  #sample() {
    const cpu = this.#pids.reduce((sum, pid) => sum + cpuTime(pid), 0);
    this.#samples.push({ now: performance.now(), cpu });
  }
}
