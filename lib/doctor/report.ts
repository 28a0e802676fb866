/**
 * A diagnosis as text for a terminal.
 */
import { styleText } from 'node:util';
import type { CapabilityFinding, Diagnosis, Limit } from './findings';

type Style = 'bold' | 'dim' | 'green' | 'yellow' | 'red';

/** Plain where standard output is no terminal, or NO_COLOR is set. */
const styled = (style: Style, text: string): string =>
  styleText(style, text, { stream: process.stdout });

/** Between the names and what they stand for. */
const COLUMN = 28;

const line = (name: string, value: string): string => `  ${name.padEnd(COLUMN)} ${value}`;

function verdict({ status, driver }: Diagnosis): string {
  switch (status) {
    case 'good':
      return styled('green', `It works, with ${driver.name}.`);
    case 'fallback':
      return styled('yellow', `It works, with ${driver.name} as a fallback.`);
    case 'broken':
      return styled('red', 'It does not work.');
  }
}

const origins = {
  chosen: 'named by COMPLETION_PORT_BINDING',
  built: 'built here',
  prebuilt: 'prebuilt',
};

function binaryLines({ binary }: Diagnosis): string[] {
  if (binary.file === null || binary.origin === null) {
    return [
      line('binary', styled('red', 'none that can be used')),
      ...binary.tried.map(({ file, reason }) => line('', `${file}: ${reason}`)),
    ];
  }
  return [
    line('binary', binary.file),
    line('', `${origins[binary.origin]}, ABI ${binary.abi ?? '?'}`),
  ];
}

function systemLines(diagnosis: Diagnosis): string[] {
  const { system, binary } = diagnosis;
  const api = system.nodeApi === null ? '' : ` (Node-API ${system.nodeApi})`;
  return [
    line('platform', `${binary.platform}, ${system.name} ${system.kernel}`),
    line('runtime', system.runtime + api),
    ...binaryLines(diagnosis),
  ];
}

const nudges = {
  signal: 'nudged by a signal (SIGRTMAX-2)',
  tick: "looked after with the timer's tick",
  off: 'left alone',
};

function driverLines({ driver, nudge }: Diagnosis): string[] {
  return [
    line('driver', driver.name ?? styled('red', 'none')),
    ...(driver.reason === '' ? [] : [line('because of', driver.reason)]),
    ...(nudge === null ? [] : [line('busy threads', nudges[nudge.mode])]),
    ...(nudge === null || nudge.reason === '' ? [] : [line('because of', nudge.reason)]),
  ];
}

function restrictionLines({ system, restrictions }: Diagnosis): string[] {
  if (system.name !== 'Linux') return [];
  const show = (value: string | number | null): string => String(value ?? 'unknown');
  return [
    line('seccomp', show(restrictions.seccomp)),
    line('kernel.io_uring_disabled', show(restrictions.ioUringDisabled)),
    line('kernel.io_uring_group', show(restrictions.ioUringGroup)),
  ];
}

function limitLine(name: string, limit: Limit | null): string[] {
  return limit === null ? [] : [line(name, `${limit.soft} (hard limit ${limit.hard})`)];
}

function capabilityLine({ name, since, required, error }: CapabilityFinding): string {
  if (error === null) return line(name, styled('green', 'granted'));
  const need = required ? 'needed' : 'would be faster';
  return line(name, `${styled(required ? 'red' : 'yellow', error)} (${need}; Linux ${since})`);
}

/** Those that are there in one line for all operations; those that are not, one by one. */
function capabilityLines({ capabilities }: Diagnosis): string[] {
  const isOperation = ({ name, error }: CapabilityFinding): boolean =>
    error === null && name.startsWith('IORING_OP_');
  const operations = capabilities.filter(isOperation).length;
  const others = capabilities.filter((one) => !isOperation(one)).map(capabilityLine);
  return operations === 0
    ? others
    : [...others, line(`${operations} operations`, styled('green', 'granted'))];
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', styled('bold', title), ...lines];
}

export function report(diagnosis: Diagnosis): string {
  const { limits } = diagnosis;
  return [
    `${styled('bold', `completion-port ${diagnosis.version}`)}  ${verdict(diagnosis)}`,
    ...section('System', systemLines(diagnosis)),
    ...section('Driver', [...driverLines(diagnosis), ...restrictionLines(diagnosis)]),
    ...section('What io_uring needs', capabilityLines(diagnosis)),
    ...section('Limits', [
      ...limitLine('descriptors', limits.descriptors),
      ...limitLine('locked memory, bytes', limits.lockedMemory),
    ]),
    ...section(
      'Advice',
      diagnosis.advice.map((text) => `  - ${text}`),
    ),
  ].join('\n');
}
