#!/usr/bin/env node
/**
 * The command `completion-port`.
 */
import { parseArgs } from 'node:util';
import { diagnose } from './doctor/diagnosis';
import type { Diagnosis } from './doctor/findings';
import { libraryVersion } from './doctor/facts';
import { report } from './doctor/report';

const USAGE = `Usage: completion-port doctor [--json]

Tells whether the library works here, with which driver and why, and what would make it better.

Options:
  --json         the same as JSON
  -h, --help     this text
  -v, --version  the version of the library

Exit code: 0 it works, 1 it works with a fallback driver, 2 it does not work,
64 this command was called wrongly.`;

/** As sysexits.h has it; apart from the answers of the doctor. */
const WRONG_USAGE = 64;

const EXIT_CODES: Record<Diagnosis['status'], number> = { good: 0, fallback: 1, broken: 2 };

function readArguments() {
  return parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
      version: { type: 'boolean', short: 'v', default: false },
    },
  });
}

function wrongUsage(message: string): number {
  console.error(`completion-port: ${message}\n\n${USAGE}`);
  return WRONG_USAGE;
}

async function doctor(json: boolean): Promise<number> {
  const diagnosis = await diagnose();
  console.log(json ? JSON.stringify(diagnosis, undefined, 2) : report(diagnosis));
  return EXIT_CODES[diagnosis.status];
}

async function main(): Promise<number> {
  let given: ReturnType<typeof readArguments>;
  try {
    given = readArguments();
  } catch (error) {
    return wrongUsage((error as Error).message);
  }
  const { values, positionals } = given;
  if (values.help) console.log(USAGE);
  else if (values.version) console.log(libraryVersion());
  else if (positionals.length === 1 && positionals[0] === 'doctor') return doctor(values.json);
  else if (positionals.length === 0) return wrongUsage('no command is given');
  else return wrongUsage(`no command '${positionals.join(' ')}'`);
  return 0;
}

void main().then((code) => {
  process.exitCode = code;
});
