/**
 * Documents sent to a spool server: first while slow connections are silent, then while they send.
 */
import {
  killAll,
  measureRun,
  startLoad,
  startServer,
} from '../../examples/programs/support/spool-measure.mjs';
import { bound } from './affinity.mjs';
import { NotMeasured } from './children.mjs';
import { driverIsHad } from './ports.mjs';

/** A thousand connections with one document each under way: an answer takes its time. */
const LONGER = 3;

process.on('exit', killAll);

async function visit(load, server, work) {
  const result = await measureRun(load, 'all', server, work);
  if (result.wrong === 0 && result.documents > 0) return result;
  throw new Error(result.complaints[0] ?? 'no document was answered');
}

export async function measureSpool({ program, driver, options }, row, times) {
  if (driver !== undefined && !driverIsHad(driver)) throw new NotMeasured(`no ${driver} here`);
  const { warmUp, seconds, most } = times;
  const { answer, size } = row;
  const connections = Math.min(row.connections, most);
  const slow = Math.min(row.slow, most);
  const all = ['--max=256MiB', `--memory=${size}`, `--answer=${answer}`, ...options];
  const server = await startServer({ program, options: all, launcher: bound('server', []) });
  const load = startLoad({ launcher: bound('client', []) });
  await load.connect('all', { connections, slow, bytes: size, answer, port: server.port });
  const work = { warmUp: warmUp * LONGER, seconds: seconds * LONGER };
  const alone = await visit(load, server, { ...work, calm: true });
  const beside = await visit(load, server, work);
  await load.end('all');
  await load.stop();
  await server.stop();
  return {
    rate: beside.documents / beside.seconds,
    cpu: beside.cpu,
    wakeUps: beside.wakeUps,
    p50: beside.p50 * 1000,
    p99: beside.p99 * 1000,
    slowEffect: beside.p99 / alone.p99,
    resident: beside.resident,
  };
}
