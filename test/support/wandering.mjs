/**
 * The model: clients whose bytes are sent back by stages that hand the connections to and fro at
 * random, while threads are ended and connections are reset. Whatever happens, a client gets its
 * bytes back once, in their order, up to where its connection ended; and no record is left.
 */
import net from 'node:net';
import { Pipeline } from '../../dist/stages-esm.mjs';

const fixture = new URL('../stage/fixtures/wanderer.mjs', import.meta.url);
const names = ['one', 'two', 'three'];

/**
 * A pipeline of three stages that know each other. `crashes`: how many threads may die, a number or
 * a SharedArrayBuffer that has one.
 *
 * @param {{ below(end: number): number }} random
 * @param {{ driver?: string, crashes?: number | SharedArrayBuffer }} options
 */
export function wanderers(random, { driver, crashes = 0 } = {}) {
  const left = typeof crashes === 'number' ? new SharedArrayBuffer(4) : crashes;
  if (typeof crashes === 'number') new Int32Array(left)[0] = crashes;
  const stage = () => ({
    stage: fixture,
    threads: 1 + random.below(3),
    concurrency: 1 + random.below(3),
    dispatch: random.below(3) === 0 ? 'affine' : 'any',
    order: random.below(2) === 0 ? 'state' : 'arrival',
    data: { stages: names, crashes: left },
  });
  const stages = Object.fromEntries(names.map((name) => [name, stage()]));
  return new Pipeline(stages, { driver, maxConnections: 512 });
}

/** The byte at a place of every client's stream. */
const byteAt = (at) => (at * 31 + (at >>> 8)) & 0xff;

/** A client's life. Rejects when a byte that comes back is another one, or too many come. */
export async function live(port, random, length) {
  const socket = net.connect({ host: '127.0.0.1', port });
  const ends = length - (random.below(3) === 0 ? random.below(length) : 0);
  const reset = random.below(2) === 0;
  let sent = 0;
  let back = 0;
  let wrong;
  socket.on('error', () => undefined);
  socket.on('data', (data) => {
    for (let i = 0; i < data.length; i++) if (data[i] !== byteAt(back + i)) wrong ??= back + i;
    back += data.length;
    if (back > sent) wrong ??= back;
  });
  const closed = new Promise((resolve) => socket.once('close', resolve));
  // One that goes before it has come is not met by anybody.
  await Promise.race([new Promise((resolve) => socket.once('connect', resolve)), closed]);
  while (sent < ends && !socket.destroyed) {
    const size = Math.min(ends - sent, 1 + random.below([3, 200, 1000, 20_000][random.below(4)]));
    const bytes = Buffer.alloc(size);
    for (let i = 0; i < size; i++) bytes[i] = byteAt(sent + i);
    sent += size;
    socket.write(bytes);
    if (random.below(3) > 0) await new Promise(setImmediate);
    // So that no more than a little is on its way.
    while (sent - back > 200_000 && !socket.destroyed) await new Promise((r) => setTimeout(r, 1));
  }
  const whole = ends === length;
  if (whole) while (back < length && !socket.destroyed) await new Promise((r) => setTimeout(r, 1));
  const lost = whole && back < length;
  if (reset) socket.resetAndDestroy();
  else socket.destroy();
  await closed;
  if (wrong !== undefined) throw new Error(`another byte came back at ${wrong}, of ${sent} sent`);
  return { bytes: back, lost };
}

/** Messages to connections that are chosen at random, until `stop()`. */
export function disturb(pipeline, random) {
  const timer = setInterval(() => {
    const all = pipeline.connections();
    for (let i = 0; i < 5 && all.length > 0; i++) {
      pipeline.tryPost(all[random.below(all.length)].key, random.below(60));
    }
  }, 3);
  return { stop: () => clearInterval(timer) };
}
