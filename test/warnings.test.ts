/**
 * Warnings of the process for programs that wait for what can never come, and the debug mode that
 * finds handles a program has lost.
 */
import { describe, expect, test } from 'vitest';
import { library, outputOf, runModule } from './support/harness';

const inDist = (name: string): string => new URL(`../dist/${name}`, import.meta.url).href;
const inFixtures = (name: string): string =>
  new URL(`./stage/fixtures/${name}`, import.meta.url).href;

/** Prints the codes of warnings as they come, and ends with the first, or after `patience`. */
const listening = `
  let heard = 0;
  process.on('warning', ({ code, name, message, detail }) => {
    heard++;
    console.log(code, name);
    console.log(message);
    if (detail) console.log(detail);
  });
  const until = async (condition) => {
    while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
  };`;

describe('packets that nobody takes', () => {
  test('the process is warned, once', async () => {
    const output = await outputOf(`${listening}
      const port = new CompletionPort();
      const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 1 });
      port.post(7, 1);
      await until(() => heard > 0);
      await new Promise((resolve) => setTimeout(resolve, 2500));
      console.log(heard);
      await port.close();`);
    expect(output).toMatch(/^CP_WARN_NO_CONSUMER NoConsumerWarning\n1 packets have waited .*\n1$/);
  });

  test('also of messages alone, after a longer while', async () => {
    const output = await outputOf(`${listening}
      const port = new CompletionPort({ queueLimit: 4 });
      while (port.tryPost(1, 2));
      const waiting = port.room();
      waiting.catch(() => undefined);
      const began = Date.now();
      await until(() => heard > 0);
      console.log(Date.now() - began > 5000);
      await port.close();`);
    expect(output).toMatch(
      /^CP_WARN_NO_CONSUMER NoConsumerWarning\n\d+ packets .* 10 seconds.*\ntrue$/,
    );
  });

  test("also of what a listener accepts that is unref'd", async () => {
    const output = await outputOf(`${listening}
      const net = await import('node:net');
      const port = new CompletionPort();
      const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 1 });
      listener.unref();
      const client = net.connect(listener.address().port, '127.0.0.1');
      await until(() => heard > 0);
      client.destroy();
      await port.close();`);
    expect(output).toMatch(/^CP_WARN_NO_CONSUMER NoConsumerWarning\n1 packets have waited /);
  });

  test('also of what is handed to a port whose packets nobody takes, after a longer while', async () => {
    const output = await outputOf(`${listening}
      const [port, other] = [new CompletionPort(), new CompletionPort()];
      const timer = port.timer({ key: 1 });
      timer.handOff(other);
      const began = Date.now();
      await until(() => heard > 0);
      console.log(Date.now() - began > 5000);
      await port.close();
      await other.close();`);
    expect(output).toMatch(
      /^CP_WARN_NO_CONSUMER NoConsumerWarning\n1 packets .* 10 seconds.*\ntrue$/,
    );
  });

  test('not of what is handed to one whose packets somebody takes', async () => {
    const output = await outputOf(`${listening}
      const [port, other] = [new CompletionPort(), new CompletionPort()];
      let taken = 0;
      other.consume(() => taken++);
      for (let i = 0; i < 5; i++) {
        port.timer({ key: 1 }).handOff(other);
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
      console.log(taken, heard);
      await port.close();
      await other.close();`);
    expect(output).toBe('5 0');
  });

  test('not when a thread takes them, however late', async () => {
    const output = await outputOf(`${listening}
      const port = new CompletionPort();
      const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 1 });
      let taken = 0;
      for (let i = 0; i < 5; i++) {
        port.post(7, i);
        await new Promise((resolve) => setTimeout(resolve, 700));
        for (const packet of port.get(64, 0)) taken += packet.type === 'posted';
      }
      console.log(taken, heard);
      await port.close();`);
    expect(output).toBe('5 0');
  });

  test("the same where a thread that never takes packets opens a handle on an 'affine' port", async () => {
    const output = await outputOf(`${listening}
      const port = new CompletionPort({ dispatch: 'affine' });
      const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 1 });
      await until(() => heard > 0);
      await port.close();`);
    expect(output).toMatch(/^CP_WARN_NO_CONSUMER NoConsumerWarning\n.*dispatch 'affine'/);
  });

  test('a consumer, of either kind, is no reason to warn', async () => {
    const output = await outputOf(`${listening}
      for (const take of [(port) => port.consume(() => {}), (port) => void port.packets().next()]) {
        const port = new CompletionPort({ dispatch: 'affine' });
        const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 1 });
        take(port);
        await new Promise((resolve) => setTimeout(resolve, 2500));
        await port.close();
      }
      console.log(heard);`);
    expect(output).toBe('0');
  });

  test("nor is a pipeline, whose stages' threads take them", async () => {
    const output = await outputOf(`${listening}
      const { Pipeline } = await import(${JSON.stringify(inDist('stages-esm.mjs'))});
      const stage = new URL(${JSON.stringify(inFixtures('echo.mjs'))});
      const pipeline = new Pipeline({ echo: { stage, threads: 1, dispatch: 'affine' } });
      await pipeline.listen('echo', { host: '127.0.0.1', port: 0 });
      await new Promise((resolve) => setTimeout(resolve, 2500));
      console.log(heard);
      await pipeline.close();`);
    expect(output).toBe('0');
  });
});

describe('D12: get() that would wait for ever', () => {
  const forEver = 'ERR_INVALID_STATE';
  const code = (fn: string): string =>
    `(() => { try { ${fn}; return 'returned'; } catch (error) { return error.code; } })()`;

  test('throws on a port that nobody else knows of, and has nothing', async () => {
    const output = await outputOf(`
      const port = new CompletionPort();
      console.log(${code('port.get()')});
      console.log(${code('port.get(64, 1)')});
      port.post(1, 2);
      console.log(Array.from(port.get(), ({ value }) => value).join());
      const timer = port.timer({ key: 3 });
      timer.start(1);
      console.log(Array.from(port.get(), ({ type }) => type).join());
      timer.close();
      console.log(Array.from(port.get(), ({ type }) => type).join());
      console.log(${code('port.get()')});
      await port.close();`);
    expect(output.split('\n')).toEqual([forEver, 'returned', '2', 'fired', 'closed', forEver]);
  });

  test('throws beside handles of await style, when what they do has ended', async () => {
    const output = await outputOf(`
      const port = new CompletionPort();
      const file = await port.open(process.execPath);
      console.log(${code('port.get()')});
      const timer = port.timer();
      let fired = false;
      const waiting = timer.wait(50).then(() => { fired = true; });
      console.log(${code('port.get()')}, fired);
      await waiting;
      console.log(fired, (await file.read({ length: 4 })).length);
      await port.close();`);
    expect(output.split('\n')).toEqual([forEver, `${forEver} false`, 'true 4']);
  });

  test('waits where an operation is under way that may open a handle', async () => {
    const output = await outputOf(`
      const port = new CompletionPort();
      const opening = port.open(process.execPath, 'r', { key: 9 });
      console.log(${code('port.get(1, 200)')});
      await opening;
      await port.close();`);
    expect(output).toBe('returned');
  });

  test('waits where another thread may attach', async () => {
    const output = await outputOf(
      `
      import { Worker } from 'node:worker_threads';
      const port = new CompletionPort();
      const worker = new Worker(
        \`import(process.argv[2]).then(({ CompletionPort }) =>
          CompletionPort.attach(require('node:worker_threads').workerData).post(1, 7));\`,
        { eval: true, execArgv: [], workerData: port.token, argv: [process.argv[1]] },
      );
      console.log(Array.from(port.get(), ({ value }) => value).join());
      await port.close();`,
      { args: [library] },
    );
    expect(output).toBe('7');
  });
});

describe('operations that a thread awaits while it loops in get()', () => {
  /** A worker whose `loop` takes packets with `get`, and the codes of the warnings that it gives. */
  const script = (loop: string): string => `
    import { Worker } from 'node:worker_threads';
    const port = new CompletionPort({ concurrency: 2 });
    const heard = [];
    const worker = new Worker(
      \`const { parentPort, workerData } = require('node:worker_threads');
      process.on('warning', ({ code }) => parentPort.postMessage(code));
      import(process.argv[2]).then(async ({ CompletionPort }) => {
        const port = CompletionPort.attach(workerData.token);
        const file = await port.open(workerData.name);
        const until = Date.now() + 2500;
        ${loop}
        parentPort.postMessage('end');
        port.detach();
      });\`,
      { eval: true, execArgv: [], workerData: { token: port.token, name: process.execPath }, argv: [process.argv[1]] },
    );
    worker.on('message', (code) => {
      heard.push(code);
      if (code !== 'end') return;
      console.log(heard.join());
      void port.close();
    });`;

  test('are told of, once, also where the thread blocks', async () => {
    const loop = `
      for (let i = 0; i < 3; i++) void file.read({ length: 4, position: i });
      for (const packet of port.get(1, 2500));`;
    const output = await outputOf(script(loop), { args: [library] });
    expect(output).toBe('CP_WARN_AWAITED_IN_GET,end');
  });

  test('are not where they go on between two batches, or have no result', async () => {
    const loop = `
      let reads = 0;
      file.read({ length: 4 }).then(() => reads++);
      while (Date.now() < until) {
        for (const packet of port.get(1, 100));
        await null;
      }
      if (reads !== 1) throw new Error('never went on');
      file.sync().catch(() => undefined);
      for (const packet of port.get(1, 1500));`;
    const output = await outputOf(script(loop), { args: [library] });
    expect(output).toBe('end');
  });
});

describe('receive buffers that are kept', () => {
  const script = (after: string): string => `${listening}
    const port = new CompletionPort({ buffers: { size: 1024, count: 8 } });
    const kept = [];
    port.consume((packet) => {
      if (packet.type === 'accepted') packet.accepted.receive({ multishot: true });
      if (packet.type === 'received' && packet.bytes > 0) kept.push(packet.keep());
    });
    const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 1 });
    const net = await import('node:net');
    const socket = net.connect(listener.address().port, '127.0.0.1');
    socket.on('error', () => undefined);
    const writer = setInterval(() => socket.write('x'), 1);
    ${after}
    clearInterval(writer);
    socket.destroy();
    await port.close();`;

  test('the process is warned when none is left', async () => {
    const output = await outputOf(script('await until(() => heard > 0);'));
    expect(output).toMatch(
      /^CP_WARN_BUFFERS_KEPT BuffersKeptWarning\nThe program keeps \d+ receive/,
    );
  });

  test('nothing is said, nor thrown, when the port is closed within that second', async () => {
    const after = `
      await until(() => port.stats().freeBuffers === 0);
      clearInterval(writer);
      await port.close();
      await new Promise((resolve) => setTimeout(resolve, 1500));
      console.log(heard);`;
    expect(await outputOf(script(after))).toBe('0');
  });
});

describe('COMPLETION_PORT_CHECK=handles', () => {
  const environment = { COMPLETION_PORT_CHECK: 'handles' };
  const nodeArguments = ['--expose-gc'];

  test('tells of each handle that was lost without being closed, and where it was opened', async () => {
    const output = await outputOf(
      `${listening}
      const port = new CompletionPort();
      async function forgetfulFiles() {
        for (let i = 0; i < 5; i++) await port.open(process.execPath);
      }
      const listener = await port.listen({ host: '127.0.0.1', port: 0 });
      async function forgetfulSocket() {
        await port.connect({ host: '127.0.0.1', port: listener.address().port });
      }
      function forgetfulTimer() {
        port.timer();
      }
      await forgetfulFiles();
      await forgetfulSocket();
      forgetfulTimer();
      // The library itself holds on to the last operation until the next one.
      await (await port.open(process.execPath)).close();
      const ticking = setInterval(() => globalThis.gc(), 20);
      await until(() => heard === 7);
      clearInterval(ticking);
      await port.close();`,
      { env: environment, nodeArguments },
    );
    expect(output.match(/CP_WARN_HANDLE_FORGOTTEN ForgottenHandleWarning/g)).toHaveLength(7);
    expect(output.match(/A file was never closed[^]*?at forgetfulFiles/g)).toHaveLength(5);
    expect(output).toMatch(
      /A socket was never closed[^]*?It was opened\n +at (async )?forgetfulSocket/,
    );
    expect(output).toMatch(/A timer was never closed[^]*?at forgetfulTimer/);
  });

  test('says nothing of those that are closed, in use, or closed with the port', async () => {
    const output = await outputOf(
      `${listening}
      const port = new CompletionPort();
      const round = async () => {
        const file = await port.open(process.execPath);
        await file.read(new Uint8Array(10), 0);
        await file.close();
        const listener = await port.listen({ host: '127.0.0.1', port: 0 });
        const { port: number } = listener.address();
        const client = await port.connect({ host: '127.0.0.1', port: number });
        const [socket] = await Promise.all([listener.accept(), client.send('hello')]);
        await Promise.all([socket.receive(), client.close()]);
        await socket.close();
        await listener.close();
      };
      for (let i = 0; i < 20; i++) await round();
      const open = await port.open(process.execPath);
      for (let i = 0; i < 20; i++) {
        globalThis.gc();
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      console.log(heard, open.closed);
      await port.close();
      globalThis.gc();
      await new Promise((resolve) => setTimeout(resolve, 50));
      console.log(heard, open.closed);`,
      { env: environment, nodeArguments },
    );
    expect(output).toBe('0 false\n0 true');
  });

  test('without it a lost handle is kept until the port is closed, silently', async () => {
    const { code, stderr } = await runModule(
      `const port = new CompletionPort();
      for (let i = 0; i < 5; i++) await port.open(process.execPath);
      for (let i = 0; i < 20; i++) {
        globalThis.gc();
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await port.close();`,
      { nodeArguments: ['--expose-gc'] },
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });
});
