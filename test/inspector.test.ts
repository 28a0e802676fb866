import { existsSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { networkInterfaces } from 'node:os';
import { chromium, type Page } from 'playwright-core';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Channel, sleep, spawn } from '../dist/micro.js';
import { frames, type Inspector, type Pipeline } from '../dist/stages.js';
import { failureOf, until } from './support/harness';
import { Client, empty, fixture, newPipeline, scripted } from './support/stages';

interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

function ask(url: string, options: http.RequestOptions = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { agent: false, ...options }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.on('end', () =>
        resolve({ status: response.statusCode!, headers: response.headers, body }),
      );
    });
    request.on('error', reject).end();
  });
}

async function json(url: string): Promise<unknown> {
  return JSON.parse((await ask(url)).body);
}

/** Events as they come, parsed. */
async function listen(inspector: Inspector): Promise<{ name: string; data: unknown }[]> {
  const heard: { name: string; data: unknown }[] = [];
  const response = await new Promise<http.IncomingMessage>((resolve) =>
    http.get(`${inspector.url}events`, { agent: false }, resolve),
  );
  onTestFinished(() => void response.destroy());
  response.on('error', () => undefined); // the inspector is closed
  let text = '';
  response.setEncoding('utf8').on('data', (more: string) => {
    const parts = (text + more).split('\n\n');
    text = parts.pop()!;
    for (const part of parts) {
      const [, name, data] = /^event: (.*)\ndata: (.*)$/.exec(part)!;
      heard.push({ name: name!, data: JSON.parse(data!) });
    }
  });
  return heard;
}

async function inspected(): Promise<{ pipeline: Pipeline; inspector: Inspector; port: number }> {
  const { pipeline, port } = await scripted();
  const inspector = await pipeline.inspector({ interval: 100 });
  return { pipeline, inspector, port };
}

describe('the inspector', () => {
  test('listens on loopback only, and on no port before it is asked to', async () => {
    const { inspector } = await inspected();
    expect(inspector.url).toBe(`http://127.0.0.1:${inspector.port}/`);
    const others = Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .filter(({ internal, family }) => !internal && family === 'IPv4');
    for (const { address } of others) {
      const socket = net.connect(inspector.port, address);
      const code = await new Promise((resolve) => {
        socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code));
        socket.on('connect', () => resolve('connected'));
      });
      socket.destroy();
      expect(code).toBe('ECONNREFUSED');
    }
  });

  test('refuses what is not an address of loopback, and other wrong options', async () => {
    const { pipeline } = await inspected();
    const wrong: [object, string][] = [
      [{ host: '0.0.0.0' }, 'ERR_INVALID_ARG_VALUE'],
      [{ host: 'localhost' }, 'ERR_INVALID_ARG_VALUE'],
      [{ port: 65536 }, 'ERR_OUT_OF_RANGE'],
      [{ interval: 10 }, 'ERR_OUT_OF_RANGE'],
    ];
    for (const [options, code] of wrong) {
      expect(await failureOf(() => pipeline.inspector(options))).toMatchObject({ code });
    }
    const taken = await pipeline.inspector();
    const again = await failureOf(() => pipeline.inspector({ port: taken.port }));
    expect(again).toMatchObject({ code: 'EADDRINUSE' });
  });

  test('answers with numbers and connections as JSON', async () => {
    const { pipeline, inspector, port } = await inspected();
    await new Client(port).ask('say 1;go careful', '1');
    await new Client(port).ask('say 2', '2');
    const stats = (await json(`${inspector.url}stats.json`)) as ReturnType<Pipeline['stats']>;
    expect(Object.keys(stats.stages)).toEqual([...pipeline.stages]);
    expect(stats.stages['first']).toMatchObject({ connections: 2, threads: 2, failures: 0 });
    expect(stats.stages['first']!.states).toMatchObject({ obedient: 1, careful: 1 });
    const careful = await json(`${inspector.url}connections.json?stage=first&state=careful`);
    expect(careful).toMatchObject({
      total: 1,
      connections: [{ stage: 'first', state: 'careful', remote: expect.stringMatching(/^127/) }],
    });
    const none = await json(`${inspector.url}connections.json?limit=0`);
    expect(none).toEqual({ total: 2, connections: [] });
    expect((await ask(`${inspector.url}connections.json?limit=x`)).status).toBe(400);
  });

  test('answers with one connection and its last events, and when it has ended, too', async () => {
    const { pipeline, port } = await scripted({}, {}, { trace: 7 });
    const inspector = await pipeline.inspector();
    const client = new Client(port);
    await client.ask('say 1;go careful', '1');
    const { key } = pipeline.connections()[0]!;
    const address = `${inspector.url}connection.json?key=${key}`;
    const entry = { stage: 'first', thread: expect.any(Number), time: expect.any(Number) };
    expect(await json(address)).toMatchObject({
      ...{ key, stage: 'first', state: 'careful', closed: false },
      trace: [
        { ...entry, state: 'obedient', event: 'entered', bytes: 0 },
        { ...entry, state: 'obedient', event: 'received', bytes: 16 },
        { ...entry, state: 'careful', event: 'entered', bytes: 0 },
      ],
    });
    await client.ask('close', '');
    await empty(pipeline);
    const ended = (await json(address)) as { closed: boolean; trace: { event: string }[] };
    expect(ended.closed).toBe(true);
    expect(ended.trace.at(-1)!.event).toBe('closed');
    const status = async (query: string) =>
      (await ask(`${inspector.url}connection.json${query}`)).status;
    expect(await status('?key=1')).toBe(404);
    for (const wrong of ['', '?key=', '?key=-1', '?key=1.5', '?key=x', '?key=4294967296']) {
      expect([wrong, await status(wrong)]).toEqual([wrong, 400]);
    }
  });

  test('answers with the micro-threads of the threads it knows', async () => {
    const talks = { stage: fixture('generators.mjs'), threads: 1 };
    const digest = { stage: fixture('digest.mjs'), threads: 1 };
    const pipeline = newPipeline({ talks, digest });
    const { port } = await pipeline.listen('talks', { host: '127.0.0.1', port: 0 });
    const inspector = await pipeline.inspector();
    await new Client(port).ask('forever', 'waits');
    const taker = spawn(
      function* () {
        yield* new Channel<number>(1).take();
      },
      { name: 'taker' },
    );
    onTestFinished(() => taker[Symbol.asyncDispose]());
    const { threads } = (await json(`${inspector.url}micro-threads.json`)) as {
      threads: { thread: string; count: number; rows: object[] }[];
    };
    expect(threads.map(({ thread, count }) => [thread, count])).toEqual([
      ['the pipeline', 1],
      ['talks 0', 1],
      ['digest 0', 0],
    ]);
    const waits = { state: 'waiting', elapsed: expect.any(Number), spawnedAt: expect.any(String) };
    expect(threads[0]!.rows).toMatchObject([
      { ...waits, id: taker.id, name: 'taker', operation: 'take', of: 'Channel' },
    ]);
    expect(threads[1]!.rows).toMatchObject([
      { ...waits, name: 'talks.received', operation: 'promise' },
    ]);
  });

  test('waits for no thread that is busy', async () => {
    const gate = new Int32Array(new SharedArrayBuffer(4));
    const stage = fixture('late.mjs');
    const pipeline = newPipeline({ late: { stage, threads: 1, data: { gate } } });
    const inspector = await pipeline.inspector();
    const open = (): void => {
      Atomics.store(gate, 0, 1);
      Atomics.notify(gate, 0);
    };
    onTestFinished(open);
    expect(await json(`${inspector.url}micro-threads.json`)).toEqual({
      threads: [{ thread: 'the pipeline', count: 0, rows: [] }, { thread: 'late 0' }],
    });
    open();
    await pipeline.ready();
    expect(await json(`${inspector.url}micro-threads.json`)).toMatchObject({
      threads: [{ thread: 'the pipeline' }, { thread: 'late 0', count: 0, rows: [] }],
    });
  });

  test('sends what has been, and then a sample now and then', async () => {
    const { inspector, port } = await inspected();
    const heard = await listen(inspector);
    await new Client(port).ask('say 1', '1');
    await until(() =>
      heard.some(
        ({ name, data }) =>
          name === 'sample' && (data as { connections: number }).connections === 1,
      ),
    );
    expect(heard[0]).toMatchObject({ name: 'history', data: { pid: process.pid, interval: 100 } });
    expect(heard.slice(1).every(({ name }) => name === 'sample')).toBe(true);
  });

  test('serves its page alone: no other file, method or host', async () => {
    const { inspector } = await inspected();
    const page = await ask(inspector.url);
    expect(page).toMatchObject({
      status: 200,
      headers: {
        'content-security-policy': expect.stringContaining("default-src 'none'"),
        'x-content-type-options': 'nosniff',
        'cache-control': 'no-store',
      },
    });
    expect(page.body).not.toMatch(/https?:\/\//);
    expect((await ask(`${inspector.url}page.js`)).body).toContain('uplot');
    for (const path of ['package.json', '../package.json', '%2e%2e/frames.js', 'page', 'x']) {
      expect((await ask(inspector.url, { path: `/${path}` })).status).toBe(404);
    }
    expect((await ask(inspector.url, { method: 'POST' })).status).toBe(405);
    // As when the name of a page from elsewhere comes to mean 127.0.0.1.
    const headers = { host: `example.org:${inspector.port}` };
    expect((await ask(inspector.url, { headers })).status).toBe(403);
    expect((await ask(`${inspector.url}stats.json`, { headers })).status).toBe(403);
  });

  test('answers no page from elsewhere, which may link to it', async () => {
    const { inspector } = await inspected();
    const from = async (site: string, destination: string) => {
      const headers = { 'sec-fetch-site': site, 'sec-fetch-dest': destination };
      return (await ask(`${inspector.url}stats.json`, { headers })).status;
    };
    expect(await from('same-origin', 'empty')).toBe(200);
    expect(await from('none', 'document')).toBe(200);
    expect(await from('cross-site', 'document')).toBe(200);
    for (const destination of ['empty', 'script', 'image', 'iframe']) {
      expect(await from('cross-site', destination)).toBe(403);
      expect(await from('same-site', destination)).toBe(403);
    }
  });

  test('lists some connections of each state, however many have waited longer', async () => {
    const { inspector, port } = await inspected();
    const waiting = Array.from({ length: 5 }, () => new Client(port));
    for (const client of waiting) await client.ask('say 1', '1');
    await new Client(port).ask('say 2;go careful', '2');
    const { total, connections } = (await json(`${inspector.url}connections.json?limit=2`)) as {
      total: number;
      connections: { state: string }[];
    };
    expect(total).toBe(6);
    expect(connections.map(({ state }) => state).sort()).toEqual(['careful', 'obedient']);
  });

  test('ends with the pipeline, whoever looks on', async () => {
    const { pipeline, inspector } = await inspected();
    await listen(inspector);
    const { port } = inspector;
    await pipeline.close();
    const gone = await failureOf(() => ask(`http://127.0.0.1:${port}/`));
    expect(gone).toMatchObject({ code: 'ECONNREFUSED' });
    const late = await failureOf(() => pipeline.inspector());
    expect(late).toMatchObject({ code: 'ERR_PIPELINE_CLOSED' });
  });
});

const browser = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  (file) => existsSync(file),
);
const why = browser === undefined ? ' (skipped: no Chromium is installed)' : '';

async function open(inspector: Inspector): Promise<{ page: Page; complaints: string[] }> {
  const instance = await chromium.launch({
    executablePath: browser!,
    // Containers often run as root, and have little shared memory.
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  });
  onTestFinished(() => instance.close());
  const page = await instance.newPage({ viewport: { width: 1280, height: 1000 } });
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(message.text());
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(inspector.url) && !request.url().startsWith('data:')) {
      complaints.push(`fetched ${request.url()}`);
    }
  });
  await page.goto(inspector.url);
  return { page, complaints };
}

describe.skipIf(browser === undefined)(`the inspector's page${why}`, () => {
  test('shows the stages and their connections, and goes on doing so', async () => {
    const pipeline = newPipeline(
      {
        spool: { native: frames({ length: 'u32be' }), next: 'work' },
        work: { stage: fixture('digest.mjs'), threads: 2 },
      },
      { trace: 15 },
    );
    const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
    const inspector = await pipeline.inspector({ interval: 100 });
    const { page, complaints } = await open(inspector);
    const says = async (selector: string, text: RegExp) => {
      await page.locator(selector).filter({ hasText: text }).first().waitFor();
    };
    await says('#link', /^live$/);
    await says('#process', new RegExp(`^process ${process.pid}$`));
    for (const stage of ['spool', 'work']) {
      const section = page.locator(`section[data-stage="${stage}"]`);
      expect(await section.locator('figcaption').allTextContents()).toEqual([
        'connections by state',
        'queue depth',
        'threads',
        'packets per second',
        'p99 since the beginning',
      ]);
      expect(await section.locator('figure canvas').count()).toBe(5);
    }

    // Two that are in the middle of a document, one that has brought one.
    const header = Buffer.from([0, 0, 0, 9]);
    const begun = [new Client(port), new Client(port)];
    for (const client of begun) client.write(Buffer.concat([header, Buffer.from('half')]));
    const whole = new Client(port);
    whole.write(Buffer.concat([header, Buffer.from('all of it')]));
    await until(() => whole.size > 0);
    await says('#totals', /connections3/);
    await says('section[data-stage="spool"] h2 small', /^3 connections/);
    await says('section[data-stage="spool"] figure:first-of-type ul', /receiving 2/);
    await says('section[data-stage="work"] h2 small', /1 handed off/);
    await says('#connections', /receiving/);
    await page.locator('select[name=state]').selectOption('idle');
    await says('#count', /^1$/);
    expect(await page.locator('#connections tr').count()).toBe(1);
    expect(await page.locator('#connections tr').innerText()).toMatch(/spool\s+idle/);

    // Something is drawn: not all of a plot has one colour.
    const drawn = await page.evaluate(`
      const canvas = document.querySelector('section[data-stage="spool"] figure canvas');
      const { width, height } = canvas;
      const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
      new Set(new Uint32Array(data.buffer)).size
    `);
    expect(drawn).toBeGreaterThan(2);
    // Nothing measured is not nothing: native threads measure no handling.
    await says('section[data-stage="spool"] figure:last-of-type ul', /handling –/);

    // One that is chosen shows its last events, until it is not any more.
    expect(await page.locator('#one').isHidden()).toBe(true);
    await page.locator('#connections button').first().click();
    await says('#one h2', /^Connection \d+$/);
    await says('#trace tr', /spool\s*waiting\s*handOff\s*9 B/);
    await says('#trace tr', /work\s*work\s*reply\s*\d+ B/);
    await says('#one-now', /^spool, idle, for .* · 127\.0\.0\.1:\d+$/);

    // Micro-threads are shown as soon as there are any.
    expect(await page.locator('#micro').isHidden()).toBe(true);
    const sleeper = spawn(
      function* () {
        yield* sleep(Infinity);
      },
      { name: 'sleeper' },
    );
    onTestFinished(() => sleeper[Symbol.asyncDispose]());
    await says('#micro-threads tr', /the pipeline\s*\d+\s*sleeper\s*waiting\s*sleep/);

    // On a phone nothing but the tables is wider than the page.
    await page.setViewportSize({ width: 360, height: 740 });
    const { wide, has } = (await page.evaluate(`
      ({ wide: document.documentElement.scrollWidth, has: document.documentElement.clientWidth })
    `)) as { wide: number; has: number };
    expect(wide).toBeLessThanOrEqual(has);
    await page.setViewportSize({ width: 1280, height: 1000 });

    const picture = process.env['COMPLETION_PORT_TEST_SCREENSHOT'];
    if (picture) await page.screenshot({ path: picture, fullPage: true });

    await page.locator('#one-close').click();
    await page.locator('#one').waitFor({ state: 'hidden' });
    expect(complaints).toEqual([]);
    await inspector.close();
    await says('#link', /trying again/);
  });
});
