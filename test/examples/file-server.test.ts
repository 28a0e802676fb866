import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, renameSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { rawClient, sleep, temporaryDirectory, windows } from '../support/harness';
import { describeDrivers, startServer, stopped } from '../support/examples';

const LARGE = 'abcdefghij'.repeat(300_000);
const SHORT = '0123456789';

function site(): string {
  const folder = path.join(temporaryDirectory(), 'site');
  mkdirSync(path.join(folder, 'sub'), { recursive: true });
  writeFileSync(path.join(folder, 'short.txt'), SHORT);
  writeFileSync(path.join(folder, 'empty'), '');
  writeFileSync(path.join(folder, 'large.bin'), LARGE);
  writeFileSync(path.join(folder, 'sub', 'index.html'), '<p>');
  writeFileSync(path.join(folder, '..', 'secret'), 'secret');
  return folder;
}

describeDrivers('file-server', (driver) => {
  const start = (folder: string, threads = 1) =>
    startServer('file-server', driver, threads, ['--root', folder]);

  async function get(port: number, target: string, options: http.RequestOptions = {}) {
    const request = http.request({
      host: '127.0.0.1',
      port,
      path: target,
      agent: false,
      ...options,
    });
    const [response] = (await once(request.end(), 'response')) as [http.IncomingMessage];
    return { status: response.statusCode, headers: response.headers, body: await text(response) };
  }

  test('files whole, in parts, by their names, and what there is not', async () => {
    const { port } = await start(site());
    const asked = (target: string, headers = {}, method = 'GET') =>
      get(port, target, { headers, method });
    const whole = await asked('/short.txt');
    expect(whole).toMatchObject({
      status: 200,
      body: SHORT,
      headers: { 'content-type': 'text/plain; charset=utf-8', 'accept-ranges': 'bytes' },
    });
    const { etag, 'last-modified': modified } = whole.headers;
    expect((await asked('/large.bin')).body === LARGE).toBe(true);
    expect(await asked('/sub/')).toMatchObject({
      ...{ status: 200, body: '<p>', headers: { 'content-type': 'text/html; charset=utf-8' } },
    });
    expect(await asked('/empty')).toMatchObject({ status: 200, body: '' });
    expect(await asked('/short.txt', {}, 'HEAD')).toMatchObject({
      headers: { 'content-length': '10' },
      body: '',
    });
    const parts = { 'bytes=2-4': '234', 'bytes=7-': '789', 'bytes=-2': '89', 'bytes=8-99': '89' };
    for (const [range, body] of Object.entries(parts)) {
      expect(await asked('/short.txt', { range })).toMatchObject({ status: 206, body });
    }
    const inLarge = await asked('/large.bin', { range: 'bytes=1000005-2000004' });
    expect(inLarge.headers['content-range']).toBe('bytes 1000005-2000004/3000000');
    expect(inLarge.body === LARGE.slice(1_000_005, 2_000_005)).toBe(true);
    for (const range of ['bytes=10-', 'bytes=-0']) {
      expect((await asked('/short.txt', { range })).status).toBe(416);
    }
    for (const range of ['bytes=4-2', 'bytes=1-2,4-5', 'lines=1-2']) {
      expect(await asked('/short.txt', { range })).toMatchObject({ status: 200, body: SHORT });
    }
    const other = { range: 'bytes=2-4', 'if-range': '"another"' };
    expect(await asked('/short.txt', other)).toMatchObject({ status: 200, body: SHORT });
    for (const headers of [{ 'if-none-match': etag }, { 'if-modified-since': modified }]) {
      expect(await asked('/short.txt', headers)).toMatchObject({ status: 304, body: '' });
    }
    expect(await asked('/sub')).toMatchObject({ status: 301, headers: { location: '/sub/' } });
    expect((await asked('//./sub//index.html')).body).toBe('<p>');
    for (const target of ['/nothing', '/short.txt/x', '/%00', '/..%2fsecret', '/%zz']) {
      expect([404, 400]).toContain((await asked(target)).status);
    }
    expect((await asked('/', {}, 'DELETE')).status).toBe(405);
    expect(await asked('/nothing', {}, 'HEAD')).toMatchObject({ status: 404, body: '' });
  });

  test('requests come in any pieces, one behind the other, and each is answered', async () => {
    const { port } = await start(site(), 2);
    const ask = (target: string, more = '') => `GET ${target} HTTP/1.1\r\nHost: x\r\n${more}\r\n`;
    const all =
      ask('/short.txt') +
      ask('/nothing') +
      ask('/sub/') +
      ask('/short.txt', 'Connection: close\r\n');
    for (let cut = 1; cut < all.length; cut += 7) {
      const client = await rawClient(port);
      const received = text(client);
      client.write(all.slice(0, cut));
      await new Promise((resolve) => setImmediate(resolve));
      client.write(all.slice(cut));
      const answers = (await received).split('HTTP/1.1 ').slice(1);
      expect(answers.map((answer) => answer.slice(0, 3))).toEqual(['200', '404', '200', '200']);
      expect(answers.map((answer) => answer.split('\r\n\r\n')[1])).toEqual([
        ...[SHORT, '404 Not Found\n', '<p>', SHORT],
      ]);
    }
  });

  test.each([
    ['no Host', 400, 'GET /short.txt HTTP/1.1\r\n\r\n'],
    ['another version', 505, 'GET /short.txt HTTP/2.0\r\nHost: x\r\n\r\n'],
    ['nonsense', 400, 'nonsense\r\n\r\n'],
    ['two Hosts', 400, 'GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n'],
    ['a bare LF in a line', 400, 'GET / HTTP/1.1\r\nHost: x\nContent-Length: 4\r\n\r\n'],
    ['a bare CR in a line', 400, 'GET / HTTP/1.1\r\nHost: x\rContent-Length: 4\r\n\r\n'],
    ['a length behind U+00A0', 413, 'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: \xa00\r\n\r\n'],
    ['a folded line', 400, 'GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n'],
    ['a body in chunks', 501, 'GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n'],
    ['a body', 413, 'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello'],
    ['a head that is too long', 431, `GET /${'x'.repeat(20_000)}`],
  ])('%s is refused, and the connection closed', async (_, status, request) => {
    const { port } = await start(site());
    const client = await rawClient(port);
    client.write(request);
    expect(await text(client)).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  });

  test('a file that becomes shorter ends the connection behind what there is of it', async () => {
    const folder = site();
    const { port } = await start(folder);
    expect((await get(port, '/large.bin', { method: 'HEAD' })).status).toBe(200);
    truncateSync(path.join(folder, 'large.bin'), 1000);
    const client = await rawClient(port);
    client.write('GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(2));
    const answers = (await text(client)).split('HTTP/1.1 ').slice(1);
    // It has been looked at anew where a second had passed.
    if (!answers[0]!.includes('Content-Length: 1000\r\n')) expect(answers).toHaveLength(1);
  });

  test('a client that does not read is sent no more than its share', async () => {
    const { port } = await start(site());
    const client = await rawClient(port);
    client.pause();
    client.write('\r\n\r\nGET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(30));
    client.end('GET /short.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    expect((await get(port, '/short.txt')).body).toBe(SHORT);
    let bytes = 0;
    for await (const chunk of client) bytes += (chunk as Buffer).length;
    expect(bytes).toBeGreaterThan(30 * LARGE.length);
  });

  test('a client that leaves in the middle costs the others nothing', async () => {
    const server = await start(site());
    for (let i = 0; i < 20; i++) {
      const client = net.connect(server.port, '127.0.0.1');
      client.on('error', () => undefined);
      client.write('GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n');
      await once(client, 'readable');
      client.resetAndDestroy();
    }
    expect((await get(server.port, '/large.bin')).body === LARGE).toBe(true);
    expect(await server.stop()).toMatchObject(stopped);
  });

  test.skipIf(windows)('no link leads out, no FIFO is waited for; a new file is seen', async () => {
    const folder = site();
    symlinkSync('../secret', path.join(folder, 'out'));
    symlinkSync('short.txt', path.join(folder, 'in'));
    execFileSync('mkfifo', [path.join(folder, 'fifo')]);
    const { port } = await start(folder);
    const status = async (target: string) => (await get(port, target)).status;
    expect([await status('/out'), await status('/in'), await status('/fifo')]).toEqual([
      ...[404, 200, 404],
    ]);
    writeFileSync(path.join(folder, 'new'), 'another');
    renameSync(path.join(folder, 'new'), path.join(folder, 'short.txt'));
    // At the latest when the old one has been open for a second.
    while ((await get(port, '/short.txt')).body !== 'another') await sleep(50);
  });
});
