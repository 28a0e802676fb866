/** What an entry of the package loads: each program pays for it, whether it uses that or not. */
import nodeNet from 'node:net';
import { expect, test } from 'vitest';
import { outputOf } from './support/harness';

interface Loaded {
  /** Of the package, below dist/. */
  readonly files: string[];
  /** Of Node.js. */
  readonly modules: string[];
}

async function loadedBy(entry: string, more = ''): Promise<Loaded> {
  const output = await outputOf(
    `
    import { createRequire } from 'node:module';
    import path from 'node:path';
    const require = createRequire(path.resolve('x.js'));
    for (const file of Object.keys(require.cache)) delete require.cache[file];
    const before = new Set(process.moduleLoadList);
    const entry = require(path.resolve(process.argv[1]));
    ${more}
    const dist = path.resolve('dist') + path.sep;
    const files = Object.keys(require.cache).filter((file) => file.startsWith(dist));
    console.log(JSON.stringify({
      files: files.map((file) => file.slice(dist.length).replaceAll(path.sep, '/')),
      modules: process.moduleLoadList
        .filter((name) => !before.has(name) && name.startsWith('NativeModule '))
        .map((name) => name.slice('NativeModule '.length)),
    }));`,
    { args: [entry], bare: true },
  );
  return JSON.parse(output) as Loaded;
}

const heavy = [
  'http',
  '_http_server',
  'net',
  'dns',
  'worker_threads',
  'internal/worker',
  'stream',
  'diagnostics_channel',
];

test('the main entry loads no stages, no micro-threads, no pools, no inspector and no modules for the network', async () => {
  const { files, modules } = await loadedBy('dist/index.js');
  expect(
    files.filter((file) => /^(stage\/|stages|micro|cpu|bullmq|node|doctor|cli)/.test(file)),
  ).toEqual([]);
  expect(modules.filter((name) => heavy.includes(name))).toEqual([]);
});

test('an interface is no module: nothing of lib/api.ts is loaded', async () => {
  const { files } = await loadedBy('dist/stages.js');
  expect(files.filter((file) => /api/.test(file))).toEqual([]);
});

test('stages load no inspector and no web server', async () => {
  const { files, modules } = await loadedBy('dist/stages.js');
  expect(files).toContain('stage/pool/pipeline.js');
  expect(files).not.toContain('stage/inspector/inspector.js');
  expect(files.filter((file) => file.startsWith('micro'))).toEqual([]);
  expect(modules).not.toContain('http');
});

test('micro-threads load no stages, and no modules for the network', async () => {
  const { files, modules } = await loadedBy('dist/micro.js');
  expect(files).toContain('micro/thread.js');
  expect(files.filter((file) => /^(stage\/|stages|doctor|cli)|api/.test(file))).toEqual([]);
  expect(modules.filter((name) => heavy.includes(name))).toEqual([]);
});

test('computation loads no stages, no micro-threads, and no modules for the network', async () => {
  const { files, modules } = await loadedBy('dist/cpu.js');
  expect(files).toContain('cpu/pool.js');
  const others = files.filter((file) => file !== 'stage/clock.js');
  expect(others.filter((file) => /^(stage|micro|doctor|cli)|api/.test(file))).toEqual([]);
  const network = ['http', '_http_server', 'net', 'dns'];
  expect(modules.filter((name) => network.includes(name))).toEqual([]);
});

test('servers of Node.js load nothing of stages, micro-threads and pools, and http when it is asked for', async () => {
  for (const entry of ['dist/node.js', 'dist/node-net.js']) {
    const { files, modules } = await loadedBy(entry);
    expect(files).toContain('node/net/socket.js');
    expect(files.filter((file) => /^(stage|micro|cpu|doctor|cli)/.test(file))).toEqual([]);
    expect(modules.filter((name) => /^(_?http|https|tls)/.test(name))).toEqual([]);
  }
});

test('BullMQ is loaded when it is first used', async () => {
  const { files } = await loadedBy('dist/bullmq.js');
  expect(files).toContain('bullmq/policy.js');
  expect(files.filter((file) => /^(stage|micro|doctor|cli|cpu\/pool)/.test(file))).toEqual([]);
  const output = await outputOf(
    `
    import { createRequire } from 'node:module';
    import path from 'node:path';
    const require = createRequire(path.resolve('x.js'));
    require('./dist/bullmq.js');
    console.log(Object.keys(require.cache).filter((file) => file.includes('node_modules')).length);`,
    { bare: true },
  );
  expect(output).toBe('0');
});

test('the doctor loads the library when it is asked', async () => {
  const { files } = await loadedBy('dist/doctor.js');
  expect(files).toContain('doctor/diagnosis.js');
  expect(files.filter((file) => /^(core|stage|micro|cpu|bullmq|node|cli)/.test(file))).toEqual([]);
});

test('each entry exports its own values, and no others', async () => {
  const main = await import('../dist/index.js');
  const stages = await import('../dist/stages.js');
  const named = (entry: object): string[] => Object.keys(entry).filter((n) => n !== 'default');
  const values = (entry: object): string[] => named(entry).filter((n) => n !== 'module.exports');
  expect(values(main).sort()).toEqual(['CompletionPort']);
  expect(values(stages).sort()).toEqual(['Pipeline', 'defineStage', 'frames']);
  const micro = await import('../dist/micro.js');
  const threads = ['MicroThread', 'exclusive', 'sleep', 'spawn', 'wait', 'within'];
  const together = [
    'Channel',
    'SharedChannel',
    'all',
    'each',
    'parallelMap',
    'race',
    'scope',
    'select',
  ];
  expect(values(micro).sort()).toEqual([...threads, ...together].sort());
  const bullmq = await import('../dist/bullmq.js');
  expect(values(bullmq)).toEqual(['bullmq']);
  const doctor = await import('../dist/doctor.js');
  expect(values(doctor)).toEqual(['diagnose']);
  const cpu = await import('../dist/cpu.js');
  const policies = ['applyWith', 'exclusive', 'inline', 'pool', 'setApply'];
  const node = await import('../dist/node.js');
  const adopting = ['adoptServer', 'adoptSocket', 'detach'];
  const serving = ['listenOver', 'over', 'sendFile', 'serve', 'shareListener'];
  expect(values(node).sort()).toEqual([...adopting, ...serving]);
  expect(values(cpu).sort()).toEqual([...policies, 'cpu', 'defineTasks', 'transfer'].sort());
  const net = await import('../dist/node-net.js');
  const own = Object.keys(nodeNet).filter((name) => !name.startsWith('_') && name !== 'default');
  expect(values(net).sort()).toEqual(expect.arrayContaining(['Server', 'Socket', 'connect']));
  expect(values(net).filter((name) => !own.includes(name))).toEqual([]);
});

test('the main entry is one file, whose modules other entries share; names stay', async () => {
  const { files } = await loadedBy('dist/index.js');
  expect(files.sort()).toEqual(['core.js', 'index.js', 'loader.js']);
  const output = await outputOf(
    `
    import { createRequire } from 'node:module';
    import path from 'node:path';
    const require = createRequire(path.resolve('x.js'));
    const { CompletionPort } = require('./dist/index.js');
    const { PortThread } = require('./dist/thread/port-thread.js');
    const port = new CompletionPort();
    const error = (() => { try { port.post('x'); } catch (error) { return error; } })();
    console.log(port.thread instanceof PortThread, CompletionPort.name, error.stack.includes('CompletionPort.post'));
    await port.close();`,
    { bare: true },
  );
  expect(output).toBe('true CompletionPort true');
});
