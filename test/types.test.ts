/**
 * What the types promise: programs that are right compile, and those that are wrong do not, with the
 * message that is expected. `no-floating-promises` of typescript-eslint sees operations.
 */
import path from 'node:path';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { wine } from './support/harness';
import { compiled, floatingPromises, type Program } from './support/compiler';

const HEAD = `
import { CompletionPort } from 'completion-port';
import type * as cp from 'completion-port';
import { defineStage, frames, Pipeline } from 'completion-port/stages';
import type * as st from 'completion-port/stages';
import * as micro from 'completion-port/micro';
import * as cpus from 'completion-port/cpu';
import * as doors from 'completion-port/node';
import * as overNet from 'completion-port/node/net';
import http from 'node:http';
import { bullmq } from 'completion-port/bullmq';
import type * as bull from 'completion-port/bullmq';
declare const port: CompletionPort;
declare const file: cp.FileHandle;
declare const keyedFile: cp.KeyedFile;
declare const socket: cp.SocketHandle;
declare const keyed: cp.KeyedSocket;
declare const listener: cp.ListenerHandle;
declare const timer: cp.TimerHandle;
declare const keyedTimer: cp.KeyedTimer;
declare const packet: cp.Packet;
declare const maybe: cp.KeyOption | undefined;
declare const signal: AbortSignal;
declare const c: st.Connection<{ n: 'u32' }, 'a' | 'b', undefined>;
declare const stageModule: URL;
declare const sumn: cpus.Task<(n: number) => number>;
declare const read: cpus.Task<(name: string, more?: boolean) => Promise<Buffer>>;
declare const pipeline: st.Pipeline<'spool' | 'work'>;
`;

/** What every public type is written in. */
const API = ['', 'stage/', 'micro/', 'cpu/', 'bullmq/', 'node/'].map((floor) =>
  fileURLToPath(new URL(`../lib/${floor}api.ts`, import.meta.url)),
);

test('no method is bound by a `this` parameter, which a `for await` does not look at', () => {
  for (const file of API) {
    expect(readFileSync(file, 'utf8').match(/\(this: (?!void)[^)]*/g), file).toBeNull();
  }
});

/** Programs that have to compile. */
const right: Record<string, string> = {
  'places to listen at, and sockets of Node.js': `
    const at: cp.ListenerHandle = await port.listen({ path: '/x', writableAll: true });
    const keyedAt: cp.KeyedListener = await port.listen({ fd: 3, key: 1 });
    const to: cp.KeyedSocket = await port.connect({ path: '\\0x', key: 'unique' });
    const family: 'IPv4' | 'IPv6' | 'unix' | undefined = at.address()?.family;
    const { handle, head } = doors.adoptSocket(port, 5);
    const own: cp.SocketHandle = handle;
    const other: cp.KeyedSocket = doors.adoptSocket(port, 5, { key: 1 }).handle;
    const fd: number = await doors.detach(own);
    const taken: cp.ListenerHandle = doors.adoptServer(port, http.createServer());
    void [keyedAt, to, family, head.length, other, fd, taken];
    await pipeline.listen('work', { path: '/x' });
  `,
  'servers of Node.js keep their type': `
    const server: http.Server = await doors.serve(http.createServer(), { port: 0, policy: 'lifo' });
    const shared: doors.SharedListener = await doors.shareListener({ fd: 3, backlog: 5 });
    await doors.serve(server, shared.token);
    await doors.serve(server, shared);
    shared.address()?.port.toFixed();
    shared.stats().moved.toFixed();
    await shared.close();
  `,
  'stages of both kinds, what keeps the process alive, and messages of channels': `
    const here = defineStage({ states: { s: {} } });
    const both = new Pipeline({ a: { stage: here, threads: 0 }, b: { stage: stageModule, data: 5 } });
    if (both.unref().hasRef() || cpus.pool().unref().hasRef() || socket.unref().hasRef() || port.hasRef()) both.ref();
    const opened: cp.ChannelMessages['completion-port:file:open'] = {
      port, path: 'x', flags: 'r', options: {}, result: file,
    };
    const refused: st.StageChannelMessages['completion-port:connection:refused'] = {
      pipeline: both, stage: 'a', count: 5,
    };
    const texts: string[] = [port, packet, socket, both].map((one) => JSON.stringify(one.toJSON()));
    for await (const count of timer.every(5, { signal, timeout: 50 })) count.toFixed();
    const again: cp.FileHandle | undefined = await c.document?.open({ signal, timeout: 5 });
    const inspector = await both.inspector({ signal, timeout: 5 });
    if (inspector.closed) void [opened, refused, texts, again];`,
  'sockets and servers over a port have the types of node:net': `
    const server: overNet.Server = overNet.createServer({ over: port, noDelay: true }, (one) => {
      one.setTimeout(10, () => one.destroySoon());
    });
    server.listen(0, () => server.close());
    const one: overNet.Socket = overNet.connect({ port: 80, over: port, autoSelectFamily: true });
    overNet.connect('/tmp/x').end();
    overNet.connect({ path: '/tmp/x', over: port, timeout: 5 }).end();
    one.pipe(new overNet.Socket({ handle: socket, allowHalfOpen: true }));
    class Mine extends overNet.Socket {}
    new Mine().connect(80).resetAndDestroy();`,
  'servers of Node.js keep their type over a port': `
    const server: http.Server = doors.listenOver(http.createServer(), port);
    const { createServer, createConnection, Connector } = doors.over(port);
    server.on('request', (_request, response) => void doors.sendFile(response, file, { position: 1 }));
    http.request({ createConnection });
    createServer((request, response) => void response.end(request.url));
    new Connector({ host: 'x', port: 1 }).disconnect();`,
  'files are streams': `
    const stream: import('node:stream').Readable = file.readable({ start: 1, end: 2, signal });
    stream.pipe(file.createWriteStream({ flush: true }));
    void file.readableWebStream({ autoClose: true }).cancel();`,
  'what a micro-thread waits for has a type': `
    function* work(): micro.Micro<number> {
      const bytes: Buffer = yield* socket.receive();
      const count: number = yield* socket.receive(new Uint8Array(1));
      const opened: cp.FileHandle = yield* port.open('x');
      const text: string = yield* micro.wait(Promise.resolve('text'));
      const nothing: void = yield* micro.sleep(1);
      const limited: Buffer = yield* micro.within(5, socket.receive());
      const held: number = yield* micro.exclusive(socket, () => socket.send('x'));
      for (const accepted of yield* micro.each(listener)) {
        const one: cp.SocketHandle = accepted;
        yield* micro.each.next();
        void one;
      }
      for (const chunk of yield* micro.each(socket)) chunk.length.toFixed();
      void [bytes, opened, text, nothing, limited];
      return count + held;
    }
    const thread: micro.MicroThread<number> = micro.spawn(work, { name: 'x', signal, grace: 5 });
    const joined: number = await thread;
    const inferred: micro.MicroThread<string> = micro.spawn(function* () {
      return String(yield* thread);
    });
    const waitable: cp.Waitable<number> = thread;
    const infos: micro.MicroThreadInfo[] = micro.MicroThread.list();
    void [joined, inferred, waitable, infos];`,
  'a handler that is a generator': `
    defineStage({
      record: { n: 'u8' },
      states: {
        a: {
          *entered(c) {
            c.record.n++;
            return c.enter('b');
          },
          *received(c, bytes) {
            yield* micro.sleep(bytes.length);
            return c.enter('b');
          },
          *failed(c, error) {
            const text: string = yield* micro.wait(Promise.resolve(error.message));
            c.send(text);
          },
          *closed() {
            yield* micro.sleep(1);
          },
        },
        b: {},
      },
    });`,
  'a task has the types of its function': `
    const { double, name } = cpus.defineTasks(import.meta.url, {
      double: (n: number) => 2 * n,
      async name(first: string, last: string) {
        return first + last;
      },
    });
    const direct: number = double(2);
    const two: cp.Operation<number> = cpus.cpu(double, 1);
    const text: string = await cpus.cpu(name, 'a', 'b');
    const bytes: Buffer = await cpus.cpu.with({ signal, timeout: 5, terminate: true }, read, 'x');
    micro.spawn(function* () {
      const sum: number = yield* cpus.cpu(sumn, 5);
      const inside: string = yield* cpus.applyWith(threads, function* () {
        return yield* cpus.cpu(name, 'a', 'b');
      });
      void [sum, inside];
    });
    const threads: cpus.Pool = cpus.pool({ threads: 2, resourceLimits: { stackSizeMb: 4 } });
    const applied: number = await threads.apply(sumn, [5], { signal });
    const policy: cpus.Policy = { apply: (task, args) => [task.name, task.module, args.length] };
    cpus.setApply(policy);
    cpus.setApply(cpus.exclusive());
    const there: bull.BullmqPolicy = bullmq({ queue: 'q', connection: { host: 'redis' }, jobOptions: { attempts: 3 } });
    cpus.setApply(there);
    const { pending, completed }: bull.BullmqStats = there.stats();
    const module: string = sumn.module;
    const moved: Uint8Array = cpus.transfer(new Uint8Array(5), []);
    void [direct, two, text, bytes, applied, module, moved, pending, completed];`,
  'several together have the types of each': `
    declare const channel: micro.Channel<bigint>;
    micro.spawn(function* () {
      const [a, b, c] = yield* micro.all([socket.receive(), socket.send('x'), micro.sleep(1)]);
      const both: [Buffer, number, void] = [a, b, c];
      const first: Buffer | number = yield* micro.race<Buffer | number>([
        socket.receive(),
        socket.send('x'),
      ]);
      const chosen = yield* micro.select({ channel, socket: socket.receive(), time: micro.sleep(1) });
      if (chosen.which === 'channel') chosen.value.toString(16);
      else if (chosen.which === 'socket') chosen.value.readUInt8();
      const lengths: number[] = yield* micro.parallelMap(
        ['a', 'b'],
        function* (name, index) {
          return name.length + index + (yield* socket.send(name));
        },
        { concurrency: 2 },
      );
      const scoped: string = yield* micro.scope(function* (s) {
        const child: micro.MicroThread<number> = s.spawn(function* () {
          return (yield* socket.receive()).length;
        });
        return String(yield* child);
      });
      const piped: micro.ReadonlyChannel<string> = channel.pipe(function* (
        input,
        output: micro.Channel<string>,
      ) {
        yield* output.put((yield* input.take()).toString());
      });
      void [both, first, lengths, scoped, piped];
    });`,
  'a channel between threads has the type of its values': `
    const shared = new micro.SharedChannel<{ a: number }>(port, 5);
    const token: micro.SharedChannelToken = shared.token;
    const attached: micro.SharedChannel<{ a: number }> = micro.SharedChannel.attach(token);
    await attached.put({ a: 1 });
    const taken: number = (await attached.take()).a;
    for await (const { a } of attached) a.toFixed();
    const waits: micro.SharedWait<{ a: number }> = shared.take();
    micro.spawn(function* () {
      yield* shared.put({ a: 2 });
      for (const { a } of yield* micro.each(shared)) {
        a.toFixed();
        yield* micro.each.next();
      }
      const chosen = yield* micro.select({ shared, time: micro.sleep(1) });
      if (chosen.which === 'shared') chosen.value.a.toFixed();
    });
    const plain: micro.Channel<{ a: number }> = shared;
    void [taken, waits, plain, shared.unref().hasRef()];`,
  'a handle without a key is awaited': `
    const opened: cp.FileHandle = await port.open('x');
    const connected: cp.SocketHandle = await port.connect({ port: 1 });
    const bytes: Buffer = await connected.receive();
    const count: number = await connected.receive(new Uint8Array(1));
    const none: undefined = opened.key;
    for await (const chunk of opened.chunks({ position: 1n, length: 5, lend: true })) chunk.length;
    for await (const accepted of await port.listen({ port: 0 })) await accepted.close();
    void [bytes, count, none];`,
  'a handle with a key answers in packets': `
    const opened: cp.KeyedFile = await port.open('x', 'r', { key: 'unique' });
    const connected: cp.KeyedSocket = await port.connect({ port: 1, key: 7 });
    const below: boolean = connected.send('x', { quiet: true, tag: 5 });
    const nothing: void = opened.read(port.allocate(5), { position: 5, length: 2 });
    const key: number = connected.key;
    connected.receive({ multishot: true });
    connected.handOff(port);
    connected.handOff(port.token, 5);
    void [below, nothing, key];`,
  'a context is kept where there is a key': `
    const opened: cp.KeyedFile = await port.open('x', 'r', { key: 'unique', asyncResource: true });
    const timed: cp.KeyedTimer = port.timer({ key: 5, asyncResource: true });
    opened.asyncResource?.runInAsyncScope(() => timed.start(5));
    void port.listen({ port: 0, key: 1, asyncResource: true });
    void port.connect({ port: 1, key: 1, asyncResource: false });
    port.consume((packet) => void packet.key, { asyncResource: true }).stop();
    function open<K extends cp.KeyOption | undefined = undefined>(o: cp.FileOptions<K>) {
      return port.open('x', 'r', o);
    }
    const keyed2: cp.KeyedFile = await open({ key: 5, asyncResource: true });
    const awaited: cp.FileHandle = await open({ asyncResource: undefined });
    void [keyed2, awaited];`,
  'a histogram in the words of node:perf_hooks': `
    const waits: cp.Histogram = port.stats().queueWaitMicroseconds;
    const all: number = waits.count + waits.min + waits.max + waits.mean + waits.percentile(99.9);
    void [all, pipeline.stats().stages.work.port.queueWaitMicroseconds.toJSON()];`,
  'options are typed and forwarded': `
    const options: cp.ConnectOptions = { port: 1, host: 'x' };
    const connected: cp.SocketHandle = await port.connect(options);
    function listen<K extends cp.KeyOption | undefined = undefined>(o: cp.ListenOptions<K>) {
      return port.listen(o);
    }
    const awaited: cp.ListenerHandle = await listen({ port: 1 });
    const packets: cp.KeyedListener = await listen({ port: 1, key: 5 });
    const either: cp.ListenerHandle | cp.KeyedListener = await port.listen({ port: 1, key: maybe });
    if (either.style === 'packet') either.handOff(port);
    void [connected, awaited, packets];`,
  'a file is read and written whole': `
    const bytes: Buffer = await file.readFile();
    const text: string = await file.readFile('utf8');
    const also: string = await file.readFile({ encoding: 'latin1', signal, timeout: 5 });
    await file.writeFile(['a', bytes], { flush: true });
    await file.appendFile((async function* () { yield 'x'; })());
    const { mtimeNs }: cp.BigIntFileStatus = await file.stat({ bigint: true });
    const size: number = (await file.stat()).size;
    const fd: number = keyedFile.fd + listener.fd + socket.fd;
    void [text, also, mtimeNs, size, fd];`,
  'what is known of a file is changed': `
    await file.chmod('600', { signal, timeout: 5 });
    await file.chown(-1, 5);
    const time: cp.FileTime = new Date();
    await file.utimes(time, 5.5);
    const nothing: void = keyedFile.utimes('5', time, { tag: 5, quiet: true });
    keyedFile.chmod(0o600);
    keyedFile.chown(0, 0);
    void nothing;`,
  'a file is read line by line': `
    for await (const line of file.readLines({ encoding: 'latin1', maxLength: 80, position: 5n, signal })) {
      line.toUpperCase();
    }
    await using lines: cp.AsyncLoop<string> = file.readLines();
    void lines;`,
  'a listener counts its connections': `
    const bounded = await port.listen({ port: 0, key: 1, maxConnections: 5 });
    if (bounded.listening && bounded.connections >= bounded.maxConnections) bounded.maxConnections *= 2;
    const state: cp.ListenerState = listener;
    await pipeline.listen('work', { port: 0, maxConnections: 100, idleTimeout: 60_000 });
    keyed.idleTimeout = socket.idleTimeout + (await port.connect({ port: 1, idleTimeout: 5 })).idleTimeout;
    const bytes: number = socket.bytesRead + keyed.bytesWritten;
    void [state, bytes];`,
  'a connection is reset': `
    await socket.reset();
    const nothing: void = keyed.reset();
    void nothing;`,
  'memory is leased': `
    using lease = port.lease(4096);
    await socket.send(lease.bytes.subarray(0, 5));`,
  'a pipeline is waited for': `
    await pipeline.ready({ signal, timeout: 1000 });
    await pipeline.listen('work', { port: 0, timeout: 1000 });`,
  'a packet is told apart by its type': `
    function step(packet: cp.Packet): void {
      if (packet.type === 'accepted') packet.accepted?.receive();
      else if (packet.failed) packet.handle?.close();
      else if (packet.type === 'received' && packet.bytes > 0) packet.sendTo(packet.handle);
      else if (packet.type === 'received') packet.handle.close();
      else if (packet.type === 'sent') packet.handle.receive();
      else if (packet.type === 'fired') packet.handle.stop();
      else if (packet.type === 'read') packet.handle.sync();
    }
    port.consume(step).stop();
    for (const packet of port.get(64)) step(packet);
    for await (const packet of port.packets({ signal, timeout: 5 })) step(packet);`,
  'the types of packets can be listed': `
    const all: Record<cp.PacketType, true> = { accepted: true, read: true, written: true,
      synced: true, truncated: true, allocated: true, changed: true, closed: true, handedOff: true, abandoned: true,
      fired: true, message: true, posted: true, received: true, sent: true, ended: true, drain: true };
    void all;`,
  'an operation is a promise': `
    const operation: Promise<number> = socket.send('x');
    const both = await Promise.all([socket.send('x'), socket.receive()]);
    const length: number = both[1].length;
    socket.send('x').cancel();
    void [operation, length];`,
  'what is opened can be disposed of': `
    await using a = await port.open('x');
    await using b = await pipeline.listen('work', { port: 0, signal });
    await using d = new CompletionPort();
    using e = port.consume(() => undefined);
    void [a, b, d, e];`,
  'a state after an await': `
    defineStage({ record: { n: 'u32' }, states: {
      a: { async received(c, bytes) { await Promise.resolve(); c.record.n += bytes.length; return c.enter('b'); } },
      b: { received: (c) => (c.record.n > 5 ? 'a' : c.close()), async handedOff(c, from) {
        for await (const chunk of c.document!.chunks({ lend: true })) chunk.length;
        return c.reply(from);
      } },
    } });`,
  'a state that is returned at once': `
    defineStage({ initial: 'b', states: { a: { posted: (c, value) => (value > 5 ? 'b' : undefined) }, b: {} } });`,
  'stages by their names': `
    const made = new Pipeline({
      spool: { native: frames({ length: 'u32be', maxLength: '1MiB' }), next: 'work' },
      work: { stage: stageModule, threads: 2 },
    });
    const where: cp.ListenerAddress = await made.listen('spool', { port: 0 });
    const packets: number = made.stats().stages.work.packets;
    made.on('close', () => undefined).on('threadExit', ({ index }) => index);
    const dynamic: Record<string, st.StageOptions> = {};
    new Pipeline(dynamic).start('any');
    void [where, packets];`,
  'stages that are handed to, by their names': `
    defineStage({ stages: ['work', 'log'], states: {
      a: { received: (c) => c.handOff('work', { state: 'x' }),
        async posted(c) { await 1; return c.handOff('log'); } },
    } });
    defineStage({ states: { a: { received: (c) => c.handOff('any' as string) } } });
    const stages: string[] = [];
    defineStage({ stages, states: { a: { received: (c) => c.handOff('any') } } });
    defineStage({ record: { n: 'u32' }, stages: ['work'], local: (c) => new Date(c.key),
      states: { a: { received: (c) => (c.local.getTime() > c.record.n ? 'b' : c.handOff('work')) }, b: {} } });
    function shared(c: st.Connection<{ n: 'u32' }, string, unknown, 'work'>) { return c.handOff('work'); }
    defineStage({ record: { n: 'u32', m: 'u8' }, stages: ['work'], states: { a: { received: (c) => c.handOff('work') } } });
    void shared;`,
  'lengths of fields': `
    const LENGTH = 64;
    const some = Number('5');
    defineStage({ record: { a: 'utf8[1]', b: 'bytes[32768]', c: \`utf8[\${LENGTH}]\`, n: 'u64' }, states: {
      a: { posted(c) {
        const text: string = c.record.a + c.record.c;
        const bytes: Buffer = c.record.b;
        c.record.n = BigInt(text.length + bytes.length);
      } },
    } });
    const fields: st.RecordFields = { a: \`utf8[\${some}]\` };
    defineStage({ record: fields, states: { a: {} } });
    const record = { x: 'u8', y: 'utf8[10]' } as const;
    defineStage({ record, states: { a: { posted(c) { c.record.x++; c.record.y.trim(); } } } });`,
  'stages that were written before, without as const': `
    const here = defineStage({ states: { s: {} } });
    const stages = {
      spool: { native: frames({ length: 'u8' }), next: 'work' },
      work: { stage: stageModule, threads: 2, order: 'state' as const },
      here: { stage: here, threads: 0 },
    };
    const made = new Pipeline(stages);
    made.start('work');
    const some = { a: { stage: stageModule, threads: [1, 2].length, data: { x: [1] } } };
    await new Pipeline(some).listen('a', { port: 0 });`,
  'states by their names, where the compiler knows them': `
    const one = defineStage({ states: { idle: {}, busy: {} } });
    const two = defineStage({ states: { out: {} } });
    const all = new Pipeline({ one: { stage: one, threads: 0 }, two: { stage: two, threads: 0 } });
    all.connections({ state: 'busy' }); all.connections({ state: '', stage: 'two' });
    const part = new Pipeline({ one: { stage: one, threads: 0 }, two: { stage: stageModule } });
    part.connections({ state: 'whatever the module has' });
    const either: st.Pipeline = all;
    either.connections({ state: 'any' });`,
  'the value of a number, and how often a timer has fired': `
    if (packet.type === 'posted' || packet.type === 'fired') packet.value.toFixed();
    else if (packet.type === 'message') void [packet.message, packet.bytes];`,
  'messages that are there, or left out': `
    port.post(1);
    port.post(1, null);
    const posted: boolean = port.tryPost(1, { a: undefined }) && pipeline.tryPost(1, 'x');
    pipeline.start('work');
    pipeline.post(pipeline.start('work', 5), Buffer.of(1));
    c.post();
    c.post(5);
    port.publish([1], posted);`,
  'framing by a delimiter': `frames({ delimiter: '\\n', pipelined: 5 });`,
};

/** Programs that must not compile; what the compiler has to say. */
const wrong: Record<string, readonly [program: string, message: RegExp]> = {
  'a path and a port': ["void port.listen({ path: '/x', port: 1 });", /not assignable/],
  'nowhere to listen': ['void port.listen({ backlog: 5 });', /not assignable/],
  'a file that is detached': ['void doors.detach(file);', /not assignable/],
  'a policy that there is not': [
    "void doors.shareListener({ port: 0, policy: 'random' });",
    /'"random"' is not assignable/,
  ],
  'no server of Node.js': ['void doors.serve({}, { port: 0 });', /'\{\}' is missing/],
  'a stage itself beside threads': [
    'new Pipeline({ a: { stage: defineStage({ states: { s: {} } }), threads: 2 } });',
    /is not assignable to type/,
  ],
  'a module without threads': [
    'new Pipeline({ a: { stage: stageModule, threads: 0 } });',
    /Wrong<"0 is for a stage itself, not for the module of one"/,
  ],
  'an option of a stage that there is not': [
    'new Pipeline({ a: { stage: stageModule, thread: 2 } });',
    /Wrong<"there is no such option of a stage"/,
  ],
  'an option of a native stage that is of others': [
    "new Pipeline({ a: { native: frames({ length: 'u8' }), next: 'a', order: 'state' } });",
    /not assignable/,
  ],
  'a next stage that a variable names wrongly': [
    "const s = { a: { native: frames({ length: 'u8' }), next: 'c' }, b: { stage: stageModule } } as const; new Pipeline(s);",
    /Wrong<"there is no such stage", "a" \| "b">/,
  ],
  'a state that no stage has': [
    "new Pipeline({ a: { stage: defineStage({ states: { s: {} } }), threads: 0 } }).connections({ state: 'zz' });",
    /'"zz"' is not assignable/,
  ],
  'a stage itself without threads: 0': [
    'new Pipeline({ a: { stage: defineStage({ states: { s: {} } }) } });',
    /is not assignable to type/,
  ],
  'data for a stage itself': [
    'new Pipeline({ a: { stage: defineStage({ states: { s: {} } }), threads: 0, data: 5 } });',
    /is not assignable to type/,
  ],
  'an idle time in words': ["socket.idleTimeout = '5s';", /'string' is not assignable/],
  'a channel that there is not': [
    "declare const told: cp.ChannelMessages['completion-port:file:opened'];",
    /Property 'completion-port:file:opened' does not exist/,
  ],
  'a keyed file as a stream': ['keyedFile.readable();', /'readable' does not exist/],
  'an unknown option of a stream of a file': [
    'file.readable({ position: 1 });',
    /'position' does not exist/,
  ],
  'a keyed socket as a stream': [
    'new overNet.Socket({ handle: keyed });',
    /'KeyedSocket' is missing the following properties/,
  ],
  'a port that is a number': ['overNet.createServer({ over: 80 });', /'number' is not assignable/],
  'a packet as a server': ['doors.listenOver(packet);', /is not assignable/],
  'a keyed file for a response': [
    'declare const response: http.ServerResponse; void doors.sendFile(response, keyedFile);',
    /'KeyedFile' is not assignable/,
  ],
  'a keyed file read whole': ['void keyedFile.readFile();', /'readFile' does not exist/],
  'a signal for a keyed chmod': ['keyedFile.chmod(0o600, { signal });', /'signal' does not exist/],
  'a time in nanoseconds': ['void file.utimes(5n, 5n);', /'bigint' is not assignable/],
  'connections that are counted by the program': [
    'listener.connections = 5;',
    /'connections' because it is a read-only property/,
  ],
  'the count of node:net': ['listener.getConnections(() => 5);', /'getConnections' does not exist/],
  'lines of a keyed file': ['keyedFile.readLines();', /'readLines' does not exist/],
  'lines that are lent': ['file.readLines({ lend: true });', /'lend' does not exist/],
  'a pipeline that is awaited as a property': [
    'await pipeline.ready.then();',
    /'then' does not exist/,
  ],
  'yield without the star': [
    'micro.spawn(function* () { yield socket.receive(); });',
    /not assignable to .*Suspended|\[suspended\]/,
  ],
  'what a keyed handle answers is not waited for': [
    'micro.spawn(function* () { yield* keyed.close(); });',
    /Symbol\.iterator/,
  ],
  'an async function is no micro-thread': ['micro.spawn(async () => 5);', /Generator|Micro/],
  'each over what is no channel': [
    'micro.spawn(function* () { yield* micro.each([1]); });',
    /not assignable/,
  ],
  'a channel of another type': [
    "new micro.Channel<number>(1).tryPut('x');",
    /'string' is not assignable to .*'number'/,
  ],
  'a value of another type between threads': [
    "void new micro.SharedChannel<number>(port, 1).put('x');",
    /'string' is not assignable to .*'number'/,
  ],
  'a channel between threads without a port': [
    'new micro.SharedChannel<number>(5, 1);',
    /'number' is not assignable to .*(CompletionPort|PortToken)/,
  ],
  'parallelMap without a bound': [
    'micro.spawn(micro.parallelMap([1], () => micro.sleep(1)));',
    /3 arguments/,
  ],
  'a loop over a keyed socket': ['for await (const x of keyed) x;', /asyncIterator/],
  'chunks of a keyed socket': ['keyed.chunks();', /'chunks' does not exist/],
  'a signal for a keyed send': ["keyed.send('x', { signal });", /'signal' does not exist/],
  'a tag for an awaited send': ["void socket.send('x', { tag: 5 });", /'tag' does not exist/],
  'quiet for an awaited send': [
    "void socket.send('x', { quiet: true });",
    /'quiet' does not exist/,
  ],
  'multishot for an awaited receive': [
    'void socket.receive({ multishot: true });',
    /multishot|overload/,
  ],
  'multishot for an awaited accept': [
    'void listener.accept({ multishot: true });',
    /'multishot' does not exist/,
  ],
  'a hand-off of an awaited handle': ['socket.handOff(port);', /'handOff' does not exist/],
  'a context kept without a key': [
    "void port.open('x', 'r', { asyncResource: true });",
    /Property 'key' is missing/,
  ],
  'the context of an awaited handle': ['file.asyncResource;', /'asyncResource' does not exist/],
  'an unknown option of consume': [
    'port.consume(() => undefined, { signal });',
    /'signal' does not exist/,
  ],
  'a histogram that is written': [
    'port.stats().queueWaitMicroseconds.count = 5;',
    /read-only property/,
  ],
  'a promise of a keyed send': ["keyed.send('x').then();", /'then' does not exist/],
  'bytes of a keyed receive': [
    'const b: Buffer = await keyed.receive(); void b;',
    /'void' is not assignable/,
  ],
  'stat of a keyed file': ['void keyedFile.stat();', /'stat' does not exist/],
  'start of an awaited timer': ['timer.start(1);', /'start' does not exist/],
  'wait of a keyed timer': ['keyedTimer.wait(1);', /'wait' does not exist/],
  'one style for the other': [
    'const other: cp.SocketHandle = keyed; void other;',
    /is missing the following properties/,
  ],
  'a key that may be none': [
    'const k: cp.KeyedSocket = await port.connect({ port: 1, key: maybe }); void k;',
    /SocketHandle \| KeyedSocket|not assignable to type 'KeyedSocket'/,
  ],
  'a misspelt option of the port': [
    'new CompletionPort({ concurency: 2 });',
    /'concurency' does not exist/,
  ],
  'a misspelt option of listen': [
    "void port.listen({ port: 1, hostname: 'x' });",
    /'hostname' does not exist/,
  ],
  'no port': ["void port.connect({ host: 'x' });", /'port' is missing/],
  'no such driver': ["new CompletionPort({ driver: 'kqueue' });", /"kqueue"' is not assignable/],
  'another constructor': ['new CompletionPort(undefined, port, 5);', /Expected 0-1 arguments/],
  'what is internal: the part of a thread': ['port.thread;', /'thread' does not exist/],
  'what is internal: a handle': ['file.closeQuietly();', /'closeQuietly' does not exist/],
  'what is internal: a packet': ['packet.copyOut();', /'copyOut' does not exist/],
  'received bytes of any packet': ['packet.keep();', /'keep' does not exist/],
  'a packet that no program sees': ["packet.type === 'none';", /no overlap/],
  'an old name: serve': ['port.serve(() => undefined);', /'serve' does not exist/],
  'an old name: dataSync': ['void file.dataSync();', /datasync/],
  'a state that there is not': [
    "defineStage({ states: { a: { posted: () => 'zz' } } });",
    /"zz"' is not assignable/,
  ],
  'a state that there is not, entered': ["c.enter('zz');", /'"zz"' is not assignable/],
  'a state that there is not, after an await': [
    "defineStage({ states: { a: { async posted(c) { await 1; return c.enter('zz'); } }, b: {} } });",
    /'"zz"' is not assignable to parameter of type '"a" \| "b"'/,
  ],
  'a handler that returns a number': [
    'defineStage({ states: { a: { posted: () => 5 } } });',
    /not assignable/,
  ],
  'an event that there is not': ['defineStage({ states: { a: { recieved() {} } } });', /recieved/],
  'the old event': ['defineStage({ states: { a: { handoff() {} } } });', /handoff/],
  'a field that there is not': ['c.record.m;', /'m' does not exist/],
  'a transition made by hand': ['const t: st.Transition = {}; void t;', /is missing/],
  'a hand-off to a stage that is not listed': [
    "defineStage({ stages: ['work'], states: { a: { received: (c) => c.handOff('wrok') } } });",
    /^\d+: Argument of type '"wrok"' is not assignable to parameter of type '"work"'.$/,
  ],
  'a field of no length': [
    "defineStage({ record: { a: 'utf8[0]' }, states: { a: {} } });",
    /^\d+: Type '"utf8\[0\]"' is not assignable to type '"a length is an integer from 1 to 32768, as in utf8\[64\]"'.$/,
  ],
  'a field of a length with a fraction': [
    "defineStage({ record: { a: 'bytes[1.5]' }, states: { a: {} } });",
    /"bytes\[1\.5\]"' is not assignable to type '"a length is an integer/,
  ],
  'a field of a negative length': [
    "defineStage({ record: { n: 'u8', a: 'utf8[-3]' }, states: { a: { posted: (c) => void c.record.n } } });",
    /^\d+: Type '"utf8\[-3\]"' is not assignable to type '"a length is an integer/,
  ],
  'a field of a length with a zero in front': [
    "defineStage({ record: { a: 'utf8[08]' }, states: { a: {} } });",
    /a length is an integer/,
  ],
  'a field of no type': [
    "defineStage({ record: { a: 'u7' }, states: { a: {} } });",
    /"u7"' is not assignable/,
  ],
  'a stage made by hand': [
    "new Pipeline({ a: { stage: { record: {}, states: ['a'] }, threads: 0 } });",
    /stage/,
  ],
  'a next stage that there is not': [
    "new Pipeline({ a: { native: frames({ length: 'u8' }), next: 'c' }, b: { stage: stageModule } });",
    /Wrong<"there is no such stage", "a" \| "b">/,
  ],
  'a function that is no task': ['void cpus.cpu((n: number) => n, 5);', /TaskTraits|isTask/],
  'a task with other arguments': ["void cpus.cpu(sumn, 'x');", /'string' is not assignable/],
  'a task without its argument': ['void cpus.cpu(sumn);', /Expected 2 arguments/],
  'a queue without a place': ["bullmq({ queue: 'q' });", /'connection' is missing/],
  'a generator that returns no state': [
    'defineStage({ record: {}, states: { a: { *posted() { yield* micro.sleep(1); return 5; } } } });',
    /not assignable/,
  ],
  'a generator that yields itself': [
    'defineStage({ record: {}, states: { a: { *posted() { yield 5; } } } });',
    /not assignable/,
  ],
  'an option that a call does not have': [
    'void cpus.cpu.with({ late: 1 }, sumn, 5);',
    /'late' does not exist/,
  ],
  'listening at a stage that there is not': [
    "void pipeline.listen('x', { port: 0 });",
    /'"x"' is not assignable/,
  ],
  'a task at a stage that there is not': ["pipeline.start('x');", /'"x"' is not assignable/],
  'numbers of a stage that there is not': ['pipeline.stats().stages.x;', /'x' does not exist/],
  'length and delimiter': ["frames({ length: 'u8', delimiter: 'x' });", /not assignable/],
  'the value of a message, which has none': [
    "if (packet.type === 'message') packet.value.toFixed();",
    /'packet.value' is possibly 'undefined'|does not exist on type 'undefined'|on type 'never'/,
  ],
  'the value of any packet': ['packet.value.toFixed();', /'packet.value' is possibly 'undefined'/],
  'a message that may be undefined': [
    'declare const n: number | undefined; port.post(1, n);',
    /^\d+: Argument of type 'number \| undefined' is not assignable to parameter of type 'Message'/,
  ],
  'a message that may be undefined, tried': [
    'declare const n: number | undefined; port.tryPost(1, n);',
    /'number \| undefined' is not assignable to parameter of type 'Message'/,
  ],
  'undefined for many': ['port.publish([1], undefined);', /'undefined' is not assignable/],
  'a message of a connection to itself that may be undefined': [
    'declare const n: number | undefined; c.post(n);',
    /'number \| undefined' is not assignable to parameter of type 'Message'/,
  ],
  'a message to a connection that may be undefined': [
    'declare const n: number | undefined; pipeline.post(1, n);',
    /'number \| undefined' is not assignable to parameter of type 'Message'/,
  ],
  'the message of a task that may be undefined': [
    "declare const n: number | undefined; pipeline.start('work', n);",
    /'number \| undefined' is not assignable to parameter of type 'Message'/,
  ],
  'two messages': ['port.post(1, 2, 3);', /Expected 1-2 arguments/],
  'neither length nor delimiter': ['frames({ maxLength: 5 });', /not assignable/],
  'an old option of frames': ["frames({ length: 'u8', max: 5 });", /'max' does not exist/],
  'the old events of a pipeline': ["pipeline.on('closed', () => undefined);", /not assignable/],
};

describe.skipIf(wine)('types', () => {
  let program: Program;
  const rightNames = Object.keys(right);
  const wrongNames = Object.keys(wrong);
  beforeAll(() => {
    program = compiled({
      ...Object.fromEntries(rightNames.map((name, i) => [`right${i}.mts`, HEAD + right[name]!])),
      ...Object.fromEntries(wrongNames.map((name, i) => [`wrong${i}.mts`, HEAD + wrong[name]![0]])),
    });
  }, 240_000);
  afterAll(() => program.remove());

  test.each(rightNames)('right: %s', (name) => {
    expect(program.messages(`right${rightNames.indexOf(name)}.mts`)).toEqual([]);
  });

  test.each(wrongNames)('wrong: %s', (name) => {
    const messages = program.messages(`wrong${wrongNames.indexOf(name)}.mts`);
    expect(messages.join('\n')).toMatch(wrong[name]![1]);
  });

  test('no-floating-promises sees operations that nobody awaits', async () => {
    const file = path.join(program.directory, 'floating.mts');
    writeFileSync(
      file,
      `${HEAD}
      socket.send('x');
      socket.close();
      port.listen({ port: 0 });
      file.read(new Uint8Array(5));
      keyed.send('x');
      keyed.close();
      void socket.send('x');
      await file.close();`,
    );
    const first = HEAD.split('\n').length;
    expect(await floatingPromises(program, ['floating.mts'])).toEqual(
      [1, 2, 3, 4].map((line) => `floating.mts:${first + line}`),
    );
  });
});
