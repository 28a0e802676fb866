/**
 * Command lines: options described in one place, read with parseArgs, explained by --help.
 */
import { parseArgs } from 'node:util';

/** An option with a value; `read` turns its text into what the program works with, or throws. */
export function option(value, fallback, help, read = (text) => text) {
  return { value, fallback, help, read };
}

/** An option that is there or not. */
export function flag(help) {
  return { help };
}

export const driverOption = {
  driver: option(
    'DRIVER',
    undefined,
    'io_uring, epoll or iocp (default: the first that works)',
    (text) => {
      if (['io_uring', 'epoll', 'iocp'].includes(text)) return text;
      throw new Error('has to be io_uring, epoll or iocp');
    },
  ),
};

/** What every server takes. */
export function serverOptions(port) {
  return {
    host: option('HOST', '127.0.0.1', 'address to listen on'),
    port: option('PORT', String(port), 'port to listen on, 0: any that is free', integer(0, 65535)),
    threads: option('N', '1', 'worker threads; 1: the main thread alone', integer(1, 64)),
    ...driverOption,
  };
}

export function integer(least, greatest) {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : NaN;
    if (value >= least && value <= greatest) return value;
    throw new Error(`has to be a whole number from ${least} to ${greatest}`);
  };
}

const units = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 };

/** 4096, 64k, 64KiB, 1MiB, 1g */
export function size(text) {
  const [, number, unit] = /^(\d+)\s*([kmg]?)(?:i?b)?$/i.exec(text) ?? [];
  if (number !== undefined) return Number(number) * units[unit.toLowerCase()];
  throw new Error('has to be a size such as 4096, 64KiB or 1MiB');
}

/** 500ms, 30s, 1.5s; a plain number counts seconds. Milliseconds. */
export function duration(text) {
  const [, number, unit] = /^(\d+(?:\.\d+)?)\s*(ms|s)?$/.exec(text) ?? [];
  const time = Math.round(Number(number) * (unit === 'ms' ? 1 : 1000));
  if (time >= 1 && time < 2 ** 31) return time;
  throw new Error('has to be a time such as 30s or 500ms');
}

/** localhost:6379, [::1]:80 */
export function hostAndPort(text) {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d+)$/.exec(text) ?? [];
  const number = Number(port);
  if (number >= 1 && number <= 65535) return { host: bracketed ?? plain, port: number };
  throw new Error('has to be HOST:PORT');
}

/**
 * The options and positional arguments of this process. `usage` is the first line of the help,
 * `required` names the options that can't be left out, `arguments` says how many positional ones
 * there may be. Prints the help and exits with 0 when it is
 * asked for; prints what is wrong and exits with 2.
 */
export function readArguments(name, description) {
  const { usage, about, options, required = [], arguments: [least, most] = [0, 0] } = description;
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { ...parserOptions(options), help: { type: 'boolean', short: 'h' } },
    });
    if (values.help) {
      console.log(helpText(name, usage, about, options));
      process.exit(0);
    }
    for (const name of required) {
      if (values[name] === undefined) throw new Error(`--${name} is missing`);
    }
    if (positionals.length < least) throw new Error('an argument is missing');
    if (positionals.length > most) throw new Error(`unexpected argument '${positionals[most]}'`);
    return { ...readValues(options, values), arguments: positionals };
  } catch (error) {
    console.error(`${name}: ${error.message.split('. To specify')[0]}`);
    console.error(`usage: node examples/programs/${name}.mjs ${usage}; --help tells more`);
    process.exit(2);
  }
}

function parserOptions(options) {
  const entries = Object.entries(options);
  return Object.fromEntries(
    entries.map(([name, { value }]) => [name, { type: value ? 'string' : 'boolean' }]),
  );
}

function readValues(options, values) {
  const result = {};
  for (const [name, { value, fallback, read }] of Object.entries(options)) {
    const text = values[name] ?? fallback;
    try {
      result[name] = value && text !== undefined ? read(text) : text;
    } catch (error) {
      throw new Error(`--${name} ${error.message}`, { cause: error });
    }
    if (!value) result[name] ??= false;
  }
  return result;
}

function helpText(name, usage, about, options) {
  const lines = [`usage: node examples/programs/${name}.mjs ${usage}`, '', about, ''];
  const all = { ...options, help: flag('this text') };
  for (const [option, { value, fallback, help }] of Object.entries(all)) {
    const left = value ? `--${option} ${value}` : `--${option}`;
    lines.push(`  ${left.padEnd(18)} ${help}${fallback ? ` (default: ${fallback})` : ''}`);
  }
  return lines.join('\n');
}
