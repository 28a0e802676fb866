// Programs that import the installed package, bundled as docs/guides/bundlers.md says. With the
// package inside, the bundle needs nothing of node_modules; with the package outside, it is found
// there.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import commonjs from '@rollup/plugin-commonjs';
import nodeResolve from '@rollup/plugin-node-resolve';
import * as esbuild from 'esbuild';
import { rollup } from 'rollup';
import * as vite from 'vite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import webpack from 'webpack';
import { expectAnswer, granted, Installation } from './installation';

const require = createRequire(import.meta.url);
/** It has no declarations. */
const { inject } = require('postject') as {
  inject(
    file: string,
    name: string,
    blob: Buffer,
    options: { sentinelFuse: string },
  ): Promise<void>;
};
const bun = process.env['COMPLETION_PORT_TEST_BUN'];

let installation: Installation;
beforeAll(() => {
  installation = new Installation();
});
afterAll(() => installation?.remove());

/** Makes `outfile` of `program`. */
type Bundler = (program: string, outfile: string) => Promise<void> | void;

interface Way {
  /** The programs it can bundle, and what comes out. */
  readonly outputs: Readonly<Record<string, string>>;
  /** Whether the package is in the bundle. */
  readonly contained: boolean;
  readonly bundle: Bundler;
}

const BOTH = { 'program.cjs': 'out.cjs', 'program.mjs': 'out.mjs' };
const AS_MODULE = { 'program.cjs': 'out.mjs', 'program.mjs': 'out.mjs' };
const AS_COMMONJS = { 'program.cjs': 'out.cjs', 'program.mjs': 'out.cjs' };

/** What esbuild leaves to a `require` of the bundle, which an ES module has not. */
const REQUIRE =
  "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);";

function withEsbuild(options: esbuild.BuildOptions): Bundler {
  return async (program, outfile) => {
    const banner = options.format === 'esm' ? { js: REQUIRE } : undefined;
    await esbuild.build({
      entryPoints: [program],
      bundle: true,
      platform: 'node',
      outfile,
      logLevel: 'error',
      ...(banner && { banner }),
      ...options,
    });
  };
}

function withWebpack(program: string, outfile: string): Promise<void> {
  const options: webpack.Configuration = {
    mode: 'production',
    target: 'node20',
    context: installation.folder,
    entry: program,
    output: { path: path.dirname(outfile), filename: path.basename(outfile) },
    externals: { 'completion-port': 'commonjs completion-port' },
  };
  return new Promise((resolve, reject) => {
    webpack(options, (error, stats) => {
      if (error) return reject(error);
      if (stats!.hasErrors()) return reject(new Error(stats!.toString('errors-only')));
      resolve();
    });
  });
}

async function withRollup(program: string, outfile: string): Promise<void> {
  const external = ['completion-port', /^node:/];
  const bundle = await rollup({
    input: program,
    external,
    plugins: [commonjs(), nodeResolve({ preferBuiltins: true })],
  });
  await bundle.write({ file: outfile, format: outfile.endsWith('.mjs') ? 'es' : 'cjs' });
}

async function withVite(program: string, outfile: string): Promise<void> {
  await vite.build({
    configFile: false,
    logLevel: 'error',
    root: installation.folder,
    build: {
      ssr: program,
      outDir: path.dirname(outfile),
      rollupOptions: { output: { entryFileNames: path.basename(outfile) } },
    },
  });
}

function run(program: string, args: readonly string[]): void {
  const ended = spawnSync(program, args, { cwd: installation.folder, encoding: 'utf8' });
  expect(ended, ended.stderr).toMatchObject({ status: 0 });
}

function withNcc(...options: readonly string[]): Bundler {
  const ncc = require.resolve('@vercel/ncc/dist/ncc/cli.js');
  return (program, outfile) =>
    run(process.execPath, [ncc, 'build', program, '-o', path.dirname(outfile), ...options]);
}

function withBun(...options: readonly string[]): Bundler {
  return (program, outfile) =>
    run(bun!, [
      'build',
      program,
      '--target',
      'node',
      '--outdir',
      path.dirname(outfile),
      ...options,
    ]);
}

const ncc = { 'program.cjs': 'index.cjs' };
const ways: Readonly<Record<string, Way>> = {
  'esbuild, as CommonJS, binaries copied': {
    outputs: AS_COMMONJS,
    contained: true,
    bundle: withEsbuild({ format: 'cjs', loader: { '.node': 'copy' } }),
  },
  'esbuild, as an ES module, binaries copied': {
    outputs: AS_MODULE,
    contained: true,
    bundle: withEsbuild({ format: 'esm', loader: { '.node': 'copy' } }),
  },
  'esbuild, as CommonJS, package outside': {
    outputs: AS_COMMONJS,
    contained: false,
    bundle: withEsbuild({ format: 'cjs', external: ['completion-port'] }),
  },
  'esbuild, as an ES module, package outside': {
    outputs: AS_MODULE,
    contained: false,
    bundle: withEsbuild({ format: 'esm', external: ['completion-port'] }),
  },
  'webpack, package outside': { outputs: AS_COMMONJS, contained: false, bundle: withWebpack },
  'rollup, package outside': { outputs: BOTH, contained: false, bundle: withRollup },
  'vite, for the server': {
    outputs: { 'program.mjs': 'out.mjs' },
    contained: false,
    bundle: withVite,
  },
  ncc: { outputs: ncc, contained: true, bundle: withNcc() },
  'ncc, package outside': {
    outputs: ncc,
    contained: false,
    bundle: withNcc('--external', 'completion-port'),
  },
  ...(bun && {
    'bun build': {
      outputs: { 'program.mjs': 'program.mjs' },
      contained: true,
      bundle: withBun('--entry-naming', '[name].mjs'),
    },
    'bun build, package outside': {
      outputs: { 'program.mjs': 'program.mjs' },
      contained: false,
      bundle: withBun('--entry-naming', '[name].mjs', '--external', 'completion-port'),
    },
  }),
};

/** An empty folder for what comes out. */
function emptyFolder(): string {
  const folder = path.join(installation.folder, 'out');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  return folder;
}

describe.each(Object.keys(ways))('%s', (name) => {
  const { outputs, contained, bundle } = ways[name]!;
  test.each(Object.keys(outputs))('%s', async (program) => {
    const outfile = path.join(emptyFolder(), outputs[program]!);
    await bundle(path.join(installation.folder, program), outfile);
    const start = () => installation.runProgram([process.execPath], outfile);
    const ended = contained ? installation.without(['../completion-port'], start) : start();
    expectAnswer(ended, granted[0]!);
  });
});

test.skipIf(!bun)('an executable of bun build --compile', () => {
  const file = path.join(emptyFolder(), 'program');
  run(bun!, ['build', '--compile', 'program.mjs', '--outfile', file]);
  const start = () => installation.run(file, [`${file}.written`]);
  expectAnswer(installation.without(['../completion-port'], start), granted[0]!);
});

// Node.js 25.5 and newer put the blob into the executable themselves (`--build-sea`).
test.skipIf(process.platform === 'win32')('a single executable of Node.js', async () => {
  const folder = emptyFolder();
  const bundle = path.join(folder, 'bundle.cjs');
  const banner = "require = require('node:module').createRequire(process.execPath);";
  const packageOutside = { external: ['completion-port'], banner: { js: banner } };
  await withEsbuild({ format: 'cjs', ...packageOutside })(
    path.join(installation.folder, 'program.cjs'),
    bundle,
  );
  const [blob, config] = [path.join(folder, 'blob'), path.join(folder, 'sea.json')];
  writeFileSync(config, JSON.stringify({ main: bundle, output: blob }));
  run(process.execPath, ['--experimental-sea-config', config]);
  const file = path.join(folder, 'program');
  copyFileSync(process.execPath, file);
  await inject(file, 'NODE_SEA_BLOB', readFileSync(blob), {
    sentinelFuse: 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2',
  });
  expectAnswer(installation.run(file, [`${file}.written`]), granted[0]!);
});
