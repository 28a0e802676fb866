/**
 * The native stage that receives whole documents: its options, and what the pipeline does with it.
 */
import os = require('node:os');
import { accessSync, constants, statSync } from 'node:fs';
import { toNamespacedPath } from 'node:path';
import { binding, type NativeFramesOptions, type NativeFramesStats } from '../../native/binding';
import { OpenFlag } from '../../native/layout';
import { systemError } from '../../support/errors';
import { asBytes, bytesIn, type Data } from '../../thread/memory';
import { listenOnFirst, makeAccessible, type ListenOptions } from '../../handles/opening';
import { SocketSettings } from '../../handles/socket-options';
import type { PortThread } from '../../thread/port-thread';
import { mayOpen, mayUseNet } from '../../support/permission';
import * as validate from '../../support/validate';
import type { FrameLength, FramesOptions, NativeStage } from '../api';
import type { StageInfo } from './plan';

const brand: unique symbol = Symbol('completion-port.frames');

/** What `frames` takes, before it is checked. */
type Unchecked = { readonly [K in keyof FramesOptions]?: FramesOptions[K] };

/** The options, checked. */
export interface Settings {
  readonly length: FrameLength | 'delimiter';
  readonly delimiter: Uint8Array | undefined;
  readonly max: number;
  readonly spoolToFile: boolean;
  readonly inMemory: number;
  readonly directory: string;
  readonly queue: number;
  readonly pipelined: number;
  readonly fileLimit: number;
  readonly minRate: number;
  readonly idleTimeout: number;
  readonly stallTimeout: number;
  readonly documentTimeout: number;
  readonly farewellTimeout: number;
  readonly tooLarge: Uint8Array | undefined;
  readonly timedOut: Uint8Array | undefined;
  readonly failed: Uint8Array | undefined;
}

/** What a connection may be at; native/stage/frames.h has the same: FrameState. */
export const frameStates = [
  'idle',
  'receiving',
  'waiting',
  'answering',
  'dismissed',
  'closing',
] as const;

const lengths = ['u8', 'u16be', 'u32be', 'u32le', 'varint'] as const;
const names: readonly (keyof FramesOptions)[] = [
  'length',
  'delimiter',
  'maxLength',
  'spool',
  'memoryThreshold',
  'directory',
  'idleTimeout',
  'stallTimeout',
  'documentTimeout',
  'farewellTimeout',
  'queueLimit',
  'pipelined',
  'fileLimit',
  'minRate',
  'tooLarge',
  'timedOut',
  'failed',
];
/** A document is one Buffer, or one file. */
const LONGEST = 2 ** 31;
const LONGEST_TIME = 2 ** 31 - 1;
const MOST_DELIMITER = 16;
const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const MOST_IN_FILES = 2 ** 50;

/**
 * A stage without JavaScript: C++ threads accept, receive, keep and time out, and hand each whole
 * document to the next stage with one packet, `handedOff`; `c.document` has it, and `c.reply` sends
 * an answer. A client that sends slowly, or in many pieces, costs JavaScript nothing.
 *
 * ```ts
 * new Pipeline({
 *   spool: { native: frames({ length: 'u32be', maxLength: '64MiB', spool: 'file' }), next: 'work' },
 *   work: { stage: new URL('./work.stage.js', import.meta.url) },
 * });
 * ```
 */
export function frames(options: FramesOptions): NativeStage {
  validate.given(options);
  validate.known(options, 'options', names);
  return Object.freeze({ [brand]: check(options) }) as unknown as NativeStage;
}

/** Undefined for what `frames` did not make. */
export function settingsOf(stage: unknown): Settings | undefined {
  return (stage as { readonly [brand]?: Settings } | null | undefined)?.[brand];
}

function check(options: Unchecked): Settings {
  const { length, delimiter, spool = 'memory' } = options;
  if ((length === undefined) === (delimiter === undefined)) {
    throw validate.invalidValue('options', 'must have either length or delimiter', options);
  }
  if (length !== undefined) validate.oneOf(length, 'options.length', lengths);
  validate.oneOf(spool, 'options.spool', ['memory', 'file']);
  const time = (name: 'idleTimeout' | 'stallTimeout' | 'documentTimeout', otherwise: number) => {
    const given = options[name] ?? otherwise;
    return given === Infinity ? 0 : validate.integer(given, `options.${name}`, 0, LONGEST_TIME);
  };
  const max = size(options.maxLength ?? 64 * MIB, 'options.maxLength');
  return {
    length: length ?? 'delimiter',
    delimiter: delimiterOf(delimiter),
    max,
    spoolToFile: spool === 'file',
    inMemory:
      spool === 'file'
        ? Math.min(max, size(options.memoryThreshold ?? MIB / 4, 'options.memoryThreshold'))
        : max,
    directory: spool === 'file' ? directoryOf(options.directory) : '',
    queue: validate.bound(options.queueLimit ?? 1024, 'options.queueLimit', 1, 2 ** 20),
    pipelined: validate.integer(options.pipelined ?? 1, 'options.pipelined', 1, 65536),
    fileLimit: size(options.fileLimit ?? 64 * GIB, 'options.fileLimit', MOST_IN_FILES),
    minRate: rateOf(options.minRate ?? 8192),
    idleTimeout: time('idleTimeout', 0),
    stallTimeout: time('stallTimeout', 30_000),
    documentTimeout: time('documentTimeout', 3_600_000),
    // 0: none at all, as the words say.
    farewellTimeout: validate.bound(
      options.farewellTimeout ?? 2000,
      'options.farewellTimeout',
      0,
      LONGEST_TIME,
    ),
    tooLarge: bytesOf(options.tooLarge, 'options.tooLarge'),
    timedOut: bytesOf(options.timedOut, 'options.timedOut'),
    failed: bytesOf(options.failed, 'options.failed'),
  };
}

const units: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kib: 1024,
  mib: MIB,
  gib: GIB,
};

/** Bytes: a number, or one with a unit. */
function size(value: unknown, name: string, most = LONGEST): number {
  if (typeof value !== 'string') return validate.bound(value, name, 1, most);
  const match = /^(\d+(?:\.\d+)?)\s*(b|kib|mib|gib|)$/i.exec(value.trim());
  if (match === null) {
    throw validate.invalidValue(name, "must be a number of bytes, or like '64MiB'", value);
  }
  const bytes = Math.floor(Number(match[1]) * units[match[2]!.toLowerCase()]!);
  return validate.integer(bytes, name, 1, most);
}

/** Infinity would be a rate that nobody has. */
function rateOf(minRate: number | string): number {
  if (minRate === 0) return 0;
  if (minRate !== Infinity) return size(minRate, 'options.minRate');
  throw validate.outOfRange('options.minRate', 'finite', minRate);
}

function delimiterOf(delimiter: Data | undefined): Uint8Array | undefined {
  const bytes = bytesOf(delimiter, 'options.delimiter');
  if (bytes === undefined) return undefined;
  validate.integer(bytes.length, 'options.delimiter.length', 1, MOST_DELIMITER);
  return bytes;
}

function bytesOf(data: Data | undefined, name: string): Uint8Array | undefined {
  if (data === undefined) return undefined;
  validate.bytes(data, name);
  // A copy: what the program does with its own afterwards is not what clients are told.
  if (typeof data === 'string') return Buffer.from(data);
  bytesIn(data);
  return Buffer.from(asBytes(data));
}

/** Errors of the file system are those of node:fs. */
function directoryOf(dir: string | undefined): string {
  const directory = validate.string(dir ?? os.tmpdir(), 'options.directory');
  if (directory.includes('\0')) {
    throw validate.invalidValue('options.directory', 'must be without null bytes', dir);
  }
  mayOpen(directory, OpenFlag.Write);
  accessSync(directory, constants.W_OK | constants.X_OK);
  // Windows takes more than 260 characters only so.
  if (statSync(directory).isDirectory()) return toNamespacedPath(directory);
  throw validate.invalidValue('options.directory', 'must be a directory', dir);
}

/** The threads of a native stage, as the pipeline has them. */
export class Frames {
  private readonly id: number;

  constructor(
    settings: Settings,
    stage: StageInfo,
    next: StageInfo,
    pool: Pick<NativeFramesOptions, 'records' | 'threads' | 'nextThreads' | 'cpus'>,
  ) {
    const where = { port: stage.port, stage: stage.index, nextPort: next.port };
    const id = binding.createFrames({
      ...settings,
      ...where,
      nextStage: next.index,
      ...pool,
    });
    if (id < 0) throw systemError(id, 'createFrames', {});
    this.id = id;
  }

  stats(): NativeFramesStats | undefined {
    return binding.framesStats(this.id);
  }

  /** A handle. */
  async listen(thread: PortThread, options: ListenOptions): Promise<number> {
    mayUseNet(options.path ?? (options.host || '::'));
    const settings = SocketSettings.ofListener(options).array;
    const id = await listenOnFirst(options, (address) => {
      const { backlog = 511, reusePort = false, ipv6Only = false, noDelay = true } = options;
      const port = Number(options.port ?? 0);
      return binding.framesListen(
        this.id,
        address,
        port,
        backlog,
        reusePort,
        ipv6Only,
        noDelay,
        settings,
      );
    });
    makeAccessible(thread, id, options);
    return id;
  }

  stopListening(): void {
    binding.framesStopListening(this.id);
  }

  /** From now on no new document is begun: connections end when they rest. */
  endConnections(): void {
    binding.framesEndConnections(this.id);
  }

  /** From now on a message to a connection closes it. */
  closeConnections(): void {
    binding.framesCloseConnections(this.id);
  }

  close(): void {
    binding.closeFrames(this.id);
  }
}
