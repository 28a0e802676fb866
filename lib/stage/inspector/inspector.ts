/**
 * A pipeline seen in a browser: a small web server, on loopback only, that shows what
 * `pipeline.stats()` and `pipeline.connections()` say as a page with plots, as JSON, and as server-sent
 * events. It runs on the pipeline's thread, and reads only.
 */
import fs = require('node:fs');
import http = require('node:http');
import type { AddressInfo, Socket } from 'node:net';
import path = require('node:path');
import { inspect } from 'node:util';
import { AWAIT_OPTIONS } from '../../await/operation';
import { coded } from '../../support/errors';
import { endWith, outlive } from '../../support/lifetime';
import { clearInterval, setInterval } from '../../support/timers';
import * as validate from '../../support/validate';
import type {
  ConnectionInfo,
  HistogramSummary,
  Inspector,
  InspectorOptions,
  Pipeline,
  PipelineStats,
  StageStats,
} from '../api';
import type { ThreadsMicroThreads } from './micro-threads';

/** What can be inspected: a pipeline, and the micro-threads of its threads. */
interface Inspected extends Pick<Pipeline, 'stats' | 'connections' | 'inspect'> {
  microThreads(): Promise<readonly ThreadsMicroThreads[]>;
}

/**
 * One stage in one sample: counts so far, gauges of the moment, p99 since the beginning in
 * microseconds, null where nothing was measured.
 */
interface StageSample extends Pick<
  StageStats,
  | 'threads'
  | 'running'
  | 'waiting'
  | 'queueDepth'
  | 'connections'
  | 'states'
  | 'packets'
  | 'failures'
  | 'handedOff'
> {
  readonly queueing: number | null;
  readonly handling: number | null;
}

interface Sample {
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly connections: number;
  readonly refused: number;
  readonly restarts: number;
  readonly stages: Readonly<Record<string, StageSample>>;
}

/** Samples that a page which comes later gets to see. */
const KEPT = 300;
/** What the addresses that are asked for begin with. */
const HERE = 'http://localhost';
/** Pages, and other listeners, at one time. */
const MOST_LISTENERS = 32;
/** A listener that does not read so much misses samples. */
const MOST_UNREAD = 256 * 1024;
/** Connections listed at one time. */
const MOST_LISTED = 500;

/** Looked up when it is wanted: in a bundle for ES modules there is no `__dirname`. */
const pageFolder = (): string => path.join(__dirname, 'page');
const files: Readonly<Record<string, readonly [file: string, type: string]>> = {
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/page.js': ['page.js', 'text/javascript; charset=utf-8'],
  '/page.css': ['page.css', 'text/css; charset=utf-8'],
};

/** Nothing from elsewhere, no inline script, no frame around it. */
const HEADERS = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cache-Control': 'no-store',
};

/**
 * The web server of one pipeline: `await pipeline.inspector({ port })`.
 * What its public members do stands in lib/stage/api.ts.
 */
export class InspectorServer implements Inspector {
  readonly url: string;
  readonly port: number;
  private readonly inspected: Inspected;
  private readonly signal: AbortSignal | undefined;
  private readonly server: http.Server;
  private readonly listeners = new Set<http.ServerResponse>();
  private readonly history: Sample[] = [];
  private readonly interval: number;
  private readonly sampler: NodeJS.Timeout;
  private closing: Promise<void> | undefined = undefined;

  /** @internal */
  constructor(
    inspected: Inspected,
    server: http.Server,
    interval: number,
    signal: AbortSignal | undefined,
  ) {
    this.inspected = inspected;
    this.signal = signal;
    this.server = server;
    this.interval = interval;
    server.on('request', (request, response) => this.answer(request, response));
    const { address, family, port } = server.address() as AddressInfo;
    this.url = `http://${family === 'IPv6' ? `[${address}]` : address}:${port}/`;
    this.port = port;
    this.sample();
    this.sampler = setInterval(() => this.sample(), interval).unref();
  }

  get closed(): boolean {
    return this.closing !== undefined;
  }

  /** @internal Its signal was aborted. */
  onAbort(): void {
    void this.close();
  }

  close(): Promise<void> {
    this.closing ??= new Promise((resolve) => {
      clearInterval(this.sampler);
      if (this.signal !== undefined) outlive(this.signal, this);
      this.server.close(() => resolve());
      this.server.closeAllConnections();
    });
    return this.closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  [inspect.custom](_depth: number, options: object, show: typeof inspect): string {
    return `Inspector ${show(this.toJSON(), options)}`;
  }

  toJSON(): object {
    const { url, closed } = this;
    return { url, closed };
  }

  private sample(): void {
    const sample = sampleOf(this.inspected.stats());
    this.history.push(sample);
    if (this.history.length > KEPT) this.history.shift();
    const event = eventOf('sample', sample);
    for (const listener of this.listeners) {
      if (listener.writableLength < MOST_UNREAD) listener.write(event);
    }
  }

  private answer(request: http.IncomingMessage, response: http.ServerResponse): void {
    for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
    if (!this.isForUs(request)) return refuse(response, 403);
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('Allow', 'GET, HEAD');
      return refuse(response, 405);
    }
    try {
      this.route(request, response);
    } catch (error) {
      if (response.headersSent) response.destroy();
      else sendJson(response, 500, { error: (error as Error).message });
    }
  }

  /**
   * A page from elsewhere can have its own name resolve to 127.0.0.1, and read what answers there;
   * the Host header then still says that name. It can also have a browser ask here without reading
   * the answer: browsers tell of that by Sec-Fetch-Site. A link from elsewhere may open the page.
   */
  private isForUs({ headers }: http.IncomingMessage): boolean {
    const { host = '', 'sec-fetch-site': site = 'none', 'sec-fetch-dest': wanted } = headers;
    if (site !== 'none' && site !== 'same-origin' && wanted !== 'document') return false;
    const own = ['127.0.0.1', '[::1]', 'localhost'];
    return own.some((name) => host === `${name}:${this.port}` || host === name);
  }

  private route(request: http.IncomingMessage, response: http.ServerResponse): void {
    const url = request.url ?? '/';
    if (!URL.canParse(url, HERE)) return refuse(response, 400); // such as `//`
    const { pathname, searchParams } = new URL(url, HERE);
    const file = Object.hasOwn(files, pathname) ? files[pathname] : undefined;
    if (file !== undefined) sendFile(response, ...file);
    else if (pathname === '/stats.json') sendJson(response, 200, this.inspected.stats());
    else if (pathname === '/connections.json') this.list(searchParams, response);
    else if (pathname === '/connection.json') this.show(searchParams, response);
    else if (pathname === '/micro-threads.json') this.listMicroThreads(response);
    else if (pathname === '/events') this.listen(request, response);
    else refuse(response, 404);
  }

  /**
   * `?stage=work&state=busy&limit=100`; those that have been in their state longest come first, in
   * turn from each stage and state.
   */
  private list(wanted: URLSearchParams, response: http.ServerResponse): void {
    const stage = wanted.get('stage');
    const state = wanted.get('state');
    const limit = Number(wanted.get('limit') ?? MOST_LISTED);
    if (!(Number.isInteger(limit) && limit >= 0 && limit <= MOST_LISTED)) {
      return sendJson(response, 400, { error: `limit has to be from 0 to ${MOST_LISTED}` });
    }
    const all = this.inspected
      .connections()
      .filter(
        (one) => (stage === null || one.stage === stage) && (state === null || one.state === state),
      )
      .sort((a, b) => b.elapsed - a.elapsed);
    sendJson(response, 200, { total: all.length, connections: someOfEach(all, limit) });
  }

  /** `?key=1048576` */
  private show(wanted: URLSearchParams, response: http.ServerResponse): void {
    const text = wanted.get('key') ?? '';
    const key = Number(text);
    if (!/^\d+$/.test(text) || key > 0xffffffff) {
      return sendJson(response, 400, { error: 'key has to be that of a connection' });
    }
    const found = this.inspected.inspect(key);
    if (found === undefined) return refuse(response, 404);
    sendJson(response, 200, found);
  }

  private listMicroThreads(response: http.ServerResponse): void {
    this.inspected.microThreads().then(
      (threads) => sendJson(response, 200, { threads }),
      (error: unknown) => sendJson(response, 500, { error: (error as Error).message }),
    );
  }

  private listen(request: http.IncomingMessage, response: http.ServerResponse): void {
    if (this.listeners.size >= MOST_LISTENERS) return refuse(response, 503);
    response.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8' });
    if (request.method === 'HEAD') return void response.end();
    const { pid } = process;
    const { history, interval } = this;
    response.write(eventOf('history', { pid, interval, samples: history }));
    this.listeners.add(response);
    response.on('close', () => this.listeners.delete(response));
  }
}

/** Resolves when it listens; rejects as `net.Server` emits (`EADDRINUSE`, …). */
export function startInspector(
  inspected: Inspected,
  options: InspectorOptions = {},
): Promise<Inspector> {
  validate.options(options);
  validate.knownOfPlace(options, ['port', 'host', 'interval', ...AWAIT_OPTIONS]);
  const port = validate.integer(options.port ?? 0, 'options.port', 0, 65535);
  const interval = validate.integer(options.interval ?? 1000, 'options.interval', 100, 60_000);
  const hosts = ['127.0.0.1', '::1'] as const;
  const host = validate.oneOf(options.host ?? '127.0.0.1', 'options.host', hosts);
  if (!fs.existsSync(path.join(pageFolder(), 'index.html'))) throw pageMissing();
  const server = http.createServer({ keepAliveTimeout: 5000 });
  // Whoever looks on must not keep the process alive.
  server.on('connection', (socket: Socket) => socket.unref());
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.off('error', reject);
      server.unref();
      const inspector = new InspectorServer(inspected, server, interval, options.signal);
      if (options.signal !== undefined) endWith(options.signal, inspector);
      resolve(inspector);
    });
  });
}

function pageMissing(): Error {
  return coded(
    new Error(`The inspector's page was not built: ${pageFolder()} is missing (npm run build:ts)`),
    'ERR_INSPECTOR_PAGE',
  );
}

function sampleOf({ connections, refused, restarts, stages }: PipelineStats): Sample {
  const entries = Object.entries(stages).map(
    ([name, stage]) => [name, stageSampleOf(stage)] as const,
  );
  const time = Date.now();
  return { time, connections, refused, restarts, stages: Object.fromEntries(entries) };
}

/**
 * The first of each stage and state, then the second of each, in the order of the first ones: five
 * thousand that wait for long do not hide the one that is at work.
 */
function someOfEach(all: readonly ConnectionInfo[], limit: number): ConnectionInfo[] {
  const places = new Map<string, number>();
  const ranked = all.map((one) => {
    const group = `${one.stage}\n${one.state}`;
    const place = places.get(group) ?? 0;
    places.set(group, place + 1);
    return { one, place };
  });
  ranked.sort((a, b) => a.place - b.place); // stable
  return ranked.slice(0, limit).map(({ one }) => one);
}

function stageSampleOf(stage: StageStats): StageSample {
  const { threads, running, waiting, queueDepth, connections, states } = stage;
  const { packets, failures, handedOff, queueing, handling } = stage;
  return {
    ...{ threads, running, waiting, queueDepth, connections, states },
    ...{ packets, failures, handedOff, queueing: p99(queueing), handling: p99(handling) },
  };
}

const p99 = ({ count, p99: most }: HistogramSummary): number | null => (count > 0 ? most : null);

function eventOf(name: string, value: unknown): string {
  return `event: ${name}\ndata: ${JSON.stringify(value)}\n\n`;
}

function refuse(response: http.ServerResponse, status: number): void {
  sendJson(response, status, { error: http.STATUS_CODES[status] });
}

/** HEAD answers come without their body by themselves. */
function sendJson(response: http.ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8' });
  response.end(JSON.stringify(value));
}

function sendFile(response: http.ServerResponse, file: string, type: string): void {
  const contents = fs.readFileSync(path.join(pageFolder(), file));
  response.writeHead(200, { 'Content-Type': type });
  response.end(contents);
}
