import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import type net from 'node:net';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import tls from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { describeDrivers, program, startExample, stopped, type Driver } from '../support/examples';
import { ended, temporaryDirectory, until } from '../support/harness';

async function started(name: string, driver: Driver, args: readonly string[] = []) {
  const child = startExample(name, ['--port', '0', '--driver', driver, ...args]);
  let said = '';
  child.stdout!.on('data', (text) => (said += text));
  const end = ended(child);
  await until(() => said.includes('\n') || child.exitCode !== null);
  const port = Number(/^listening on port (\d+)/.exec(said)?.[1]);
  if (!(port > 0)) throw new Error(`not ready: ${said}${(await end).stderr}`);
  const stop = () => (child.kill('SIGTERM'), end);
  return { port, stop };
}

async function bodyOf(port: number, url: string): Promise<string> {
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    http.get({ host: '127.0.0.1', port, path: url, agent: false }, resolve).on('error', reject);
  });
  return text(response);
}

describeDrivers('node', (driver) => {
  test('http-over-port answers, and sends a file', async () => {
    const { port, stop } = await started('http-over-port', driver);
    expect(await bodyOf(port, '/a')).toBe(`GET /a over ${driver}\n`);
    const source = readFileSync(program('http-over-port'), 'utf8');
    expect(await bodyOf(port, '/source')).toBe(source);
    expect(await stop()).toMatchObject({ ...stopped, stderr: expect.any(String) as string });
  });

  test('tls-proxy takes TLS off', async () => {
    const directory = temporaryDirectory();
    const [key, cert] = ['key.pem', 'cert.pem'].map((name) => path.join(directory, name));
    const what = ['-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost', '-days', '2'];
    execFileSync('openssl', ['req', '-x509', ...what, '-keyout', key!, '-out', cert!], {
      stdio: 'ignore',
    });
    const plain = http.createServer((_request, response) => response.end('plain text'));
    plain.listen(0, '127.0.0.1');
    await once(plain, 'listening');
    onTestFinished(() => void plain.close());
    const target = `127.0.0.1:${(plain.address() as net.AddressInfo).port}`;
    const files = ['--cert', cert!, '--key', key!, '--target', target];
    const { port, stop } = await started('tls-proxy', driver, files);
    const client = tls.connect({ host: '127.0.0.1', port, rejectUnauthorized: false });
    client.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    expect(await text(client)).toMatch(/^HTTP\/1.1 200 [^]*plain text/);
    expect(await stop()).toMatchObject({ ...stopped, stderr: expect.any(String) as string });
  });
});
