// The inspector's web server, asked by what is no browser.
import { once } from 'node:events';
import net from 'node:net';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { startInspector } from '../../dist/stage/inspector/inspector.js';
import type { ConnectionInfo, PipelineStats } from '../../dist/stage/api.js';

/** The same in each run; FUZZ_SEED=2 FUZZ_RUNS=100000 looks elsewhere, for longer. */
fc.configureGlobal({
  seed: Number(process.env['FUZZ_SEED'] ?? 1),
  numRuns: Number(process.env['FUZZ_RUNS'] ?? 500),
});

/** A pipeline in which nothing happens. */
const pipeline = {
  stats: () =>
    ({ connections: 0, refused: 0, restarts: 0, stages: {} }) as unknown as PipelineStats,
  connections: () => [] as ConnectionInfo[],
  inspect: () => undefined,
  microThreads: () => Promise.resolve([]),
};

/** Everything that comes back for `request`, after which nothing more is sent. */
async function ask(port: number, request: Buffer): Promise<string> {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  let answer = '';
  socket.setEncoding('latin1').on('data', (more: string) => {
    answer += more;
    // Events go on for ever.
    if (answer.includes('event: history')) socket.destroy();
  });
  // A server that has refused a request need not read the rest of it.
  socket.on('error', () => undefined);
  socket.end(request);
  await once(socket, 'close');
  return answer;
}

const EXPECTED = [100, 200, 400, 403, 404, 405, 408, 413, 414, 417, 431, 501, 503, 505];

const token = fc.oneof(
  fc.constantFrom('GET', 'HEAD', 'POST', 'OPTIONS', 'CONNECT', 'TRACE', 'PRI', 'get', ''),
  fc.string(),
);
const target = fc.oneof(
  fc.constantFrom(
    '/',
    '//',
    '/\\',
    '*',
    '/stats.json',
    '/connection.json',
    '/micro-threads.json',
    '/events',
    '/../x',
    '/%',
    'http://[',
    '?',
    '#',
  ),
  fc.webPath(),
  fc.webUrl(),
  fc.string({ unit: 'binary' }),
  fc
    .tuple(fc.constantFrom('/connections.json?', '/connection.json?key='), fc.webQueryParameters())
    .map((parts) => parts.join('')),
  fc
    .tuple(
      fc.constantFrom('s.json?stage', 's.json?state', 's.json?limit', '.json?key'),
      fc.oneof(fc.string(), fc.double().map(String)),
    )
    .map(
      ([name, value]) =>
        `/connection${name}=${encodeURIComponent(value.replace(/[\ud800-\udfff]/g, ''))}`,
    ),
);
const header = fc.oneof(
  fc.constantFrom(
    'Host: localhost',
    'Host: elsewhere.example',
    'Sec-Fetch-Site: cross-site',
    'Content-Length: 4',
    'Content-Length: -1',
    'Transfer-Encoding: chunked',
    'Upgrade: websocket\r\nConnection: Upgrade',
    'Expect: 100-continue',
    'Expect: x',
    'Range: bytes=0-1',
  ),
  fc.tuple(fc.string(), fc.string()).map((parts) => parts.join(': ')),
);
const request = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .tuple(token, target, fc.array(header), fc.string())
      .map(([method, url, headers, body]) =>
        Buffer.from(
          `${[`${method} ${url} HTTP/1.1`, 'Connection: close', ...headers].join('\r\n')}\r\n\r\n${body}`,
        ),
      ),
  },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)) },
);

test(
  'whatever is asked is answered or refused, and the next one is answered',
  { timeout: 600_000 },
  async () => {
    const inspector = await startInspector(pipeline);
    onTestFinished(() => inspector.close());
    await fc.assert(
      fc.asyncProperty(request, async (bytes) => {
        const answer = await ask(inspector.port, bytes);
        const statuses = [...answer.matchAll(/^HTTP\/1\.1 (\d+)/gm)].map(([, status]) =>
          Number(status),
        );
        for (const status of statuses) expect(EXPECTED).toContain(status);
      }),
    );
    const good = await ask(
      inspector.port,
      Buffer.from('GET /stats.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'),
    );
    expect(good).toMatch(/^HTTP\/1\.1 200 /);
  },
);
