/**
 * dd, one pass after another.
 */
import { capture, NotMeasured, tool } from './children.mjs';

/** The shell tells the CPU time of what it has run: user and system, in seconds. */
const SCRIPT = 'TIMEFORMAT="cpu %3U %3S"; time dd "$@"';

async function pass(file, size, bytes) {
  const { errors } = await capture(
    tool(
      ...['bash', '-c', SCRIPT, 'dd', `if=${file}`, 'of=/dev/null'],
      ...[`bs=${size}`, `count=${bytes / size}`],
    ),
  );
  const [, copied, seconds] = /^(\d+) bytes.* copied, ([\d.e+-]+) s/m.exec(errors);
  const [, user, system] = /^cpu ([\d.]+) ([\d.]+)$/m.exec(errors);
  if (Number(copied) !== bytes) throw new Error(`dd: ${copied} bytes`);
  return { seconds: Number(seconds), cpu: Number(user) + Number(system) };
}

async function passOrNone(file, size, bytes) {
  try {
    return await pass(file, size, bytes);
  } catch (error) {
    if (error.code === 'ENOENT') throw new NotMeasured('bash is not installed');
    throw error;
  }
}

export async function runDd(file, size, { fileSize, warmUp, seconds }) {
  const began = performance.now();
  const total = { passes: 0, seconds: 0, cpu: 0 };
  for (;;) {
    const { seconds: took, cpu } = await passOrNone(file, size, fileSize);
    const elapsed = (performance.now() - began) / 1000;
    if (elapsed < warmUp) continue;
    total.passes++;
    total.seconds += took;
    total.cpu += cpu;
    if (elapsed > warmUp + seconds) break;
  }
  const bytes = total.passes * fileSize;
  return { throughput: bytes / total.seconds, cpuPerMiB: (total.cpu * 1e6) / (bytes / 2 ** 20) };
}
