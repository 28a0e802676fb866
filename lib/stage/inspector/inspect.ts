/**
 * Looking at all connections of a pipeline. Nobody is stopped for it: a record may change hands
 * while it is looked at, so what is shown is true of each connection, but of no single moment.
 */
import { handleAt } from '../../native/layout';
import type { ConnectionDetails, ConnectionInfo, ConnectionsOptions } from '../api';
import { EPOCH, monotonic } from '../../support/clock';
import { Header, IN_TRANSIT, NONE, RecordFlag, type Records } from '../record/record';
import type { Trace } from '../record/trace';
import type { StageInfo } from '../definition/plan';

/** Calls `visit` with the place of each record in use. */
export function eachRecord(records: Records, visit: (at: number, key: number) => void): void {
  const { words, stride, limit } = records;
  for (let at = 0; at < limit * stride; at += stride) {
    const key = words[at >>> 2]!;
    if (key !== 0) visit(at, key);
  }
}

export function countConnections(records: Records): number {
  let count = 0;
  eachRecord(records, () => count++);
  return count;
}

/** How many connections each state of each stage has. */
export function countStates(
  records: Records,
  stages: readonly StageInfo[],
): Record<string, number>[] {
  const counts = stages.map(({ states }) => Object.fromEntries(states.map((state) => [state, 0])));
  eachRecord(records, (at) => {
    const stage = stageAt(records, stages, at);
    if (stage === undefined) return;
    const state = stateAt(records, stage, at);
    const byState = counts[stage.index]!;
    byState[state] = (byState[state] ?? 0) + 1;
  });
  return counts;
}

/** An accepted connection that was not begun belongs to the stage of its port. */
function stageAt(
  records: Records,
  stages: readonly StageInfo[],
  at: number,
): StageInfo | undefined {
  const index = records.bytes[at + Header.STAGE]!;
  if (index !== NONE) return stages[index];
  const port = records.words[(at + Header.PORT) >>> 2]!;
  return stages.find((stage) => stage.port === port);
}

function stateAt(records: Records, stage: StageInfo, at: number): string {
  const state = records.bytes[at + Header.STATE]!;
  return (state & IN_TRANSIT) !== 0 ? '' : (stage.states[state] ?? '');
}

/** Tells the peer of a handle. */
type Remote = (handle: number) => string | undefined;

export function listConnections(
  records: Records,
  stages: readonly StageInfo[],
  remote: Remote,
  wanted: ConnectionsOptions,
): ConnectionInfo[] {
  const found: ConnectionInfo[] = [];
  const { limit = Infinity } = wanted;
  eachRecord(records, (at, key) => {
    const stage = stageAt(records, stages, at);
    const state = stage === undefined ? '' : stateAt(records, stage, at);
    if (found.length >= limit) return;
    if (wanted.stage !== undefined && wanted.stage !== stage?.name) return;
    if (wanted.state !== undefined && wanted.state !== state) return;
    found.push(infoOf(records, stages, remote, at, key));
  });
  return found;
}

function infoOf(
  records: Records,
  stages: readonly StageInfo[],
  remote: Remote,
  at: number,
  key: number,
): ConnectionInfo {
  const stage = stageAt(records, stages, at);
  const flags = records.bytes[at + Header.FLAGS]!;
  const handle = handleAt(records.words, (at + Header.HANDLE) >>> 2);
  const hasDocument = (flags & RecordFlag.HasDocument) !== 0;
  const since = records.numbers[(at + Header.SINCE) >>> 3]!;
  return {
    key,
    stage: stage?.name ?? '',
    state: stage === undefined ? '' : stateAt(records, stage, at),
    elapsed: since === 0 ? 0 : Math.max(0, monotonic() - since),
    remote: handle === 0 ? undefined : remote(handle),
    document: hasDocument ? records.numbers[(at + Header.DOCUMENT_LENGTH) >>> 3]! : undefined,
    received: records.numbers[(at + Header.RECEIVED) >>> 3]!,
    closing: (flags & RecordFlag.Closing) !== 0,
  };
}

/**
 * One of them, with its trace. Undefined where there is none of that key; one that has ended leaves
 * its trace behind, until its record is another one's.
 */
export function inspectConnection(
  records: Records,
  trace: Trace | undefined,
  stages: readonly StageInfo[],
  remote: Remote,
  key: number,
): ConnectionDetails | undefined {
  const at = records.offset(key);
  if (key === 0 || at < 0) return undefined;
  const before = records.live(key) ? infoOf(records, stages, remote, at, key) : undefined;
  const entries = trace?.read(key, stages);
  // What was looked at in between may have been the next one's already.
  if (before !== undefined && records.live(key)) {
    return { ...before, closed: false, trace: entries ?? [] };
  }
  const last = entries?.at(-1);
  if (last === undefined) return undefined;
  const { stage, state, time } = last;
  const elapsed = Math.max(0, monotonic() - (time - EPOCH));
  const gone = { remote: undefined, document: undefined, received: 0, closing: true, closed: true };
  return { key, stage, state, elapsed, ...gone, trace: entries! };
}
