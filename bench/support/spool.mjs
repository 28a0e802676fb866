/**
 * Documents sent to a spool server: first without slow connections, then beside them.
 */
import { killAll, measureServer, startServer } from '../../examples/support/spool-measure.mjs';
import { bound } from './affinity.mjs';
import { NotMeasured } from './children.mjs';
import { driverIsHad } from './ports.mjs';

/** A thousand connections with one document each under way: an answer takes its time. */
const LONGER = 3;

process.on('exit', killAll);

async function visit(server, work) {
  const result = await measureServer(server, { ...work, launcher: bound('client', []) });
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
  const work = { connections, bytes: size, answer, warmUp: warmUp * LONGER };
  work.seconds = seconds * LONGER;
  const alone = await visit(server, { ...work, slow: 0 });
  const beside = await visit(server, { ...work, slow });
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
