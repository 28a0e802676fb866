/**
 * Looking at all connections of a pipeline. Nobody is stopped for it: a record may change hands
 * while it is looked at, so what is shown is true of each connection, but of no single moment.
 */
import { handleAt } from '../../native/binding';
import type { ConnectionInfo, ConnectionsOptions } from '../api';
import { monotonic } from '../../support/clock';
import { Header, IN_TRANSIT, NONE, RecordFlag, type Records } from '../record/record';
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

export function listConnections(
  records: Records,
  stages: readonly StageInfo[],
  remote: (handle: number) => string | undefined,
  wanted: ConnectionsOptions,
): ConnectionInfo[] {
  const found: ConnectionInfo[] = [];
  const { limit = Infinity } = wanted;
  const now = monotonic();
  eachRecord(records, (at, key) => {
    const stage = stageAt(records, stages, at);
    const state = stage === undefined ? '' : stateAt(records, stage, at);
    if (found.length >= limit) return;
    if (wanted.stage !== undefined && wanted.stage !== stage?.name) return;
    if (wanted.state !== undefined && wanted.state !== state) return;
    const flags = records.bytes[at + Header.FLAGS]!;
    const handle = handleAt(records.words, (at + Header.HANDLE) >>> 2);
    const hasDocument = (flags & RecordFlag.HasDocument) !== 0;
    const since = records.numbers[(at + Header.SINCE) >>> 3]!;
    found.push({
      key,
      stage: stage?.name ?? '',
      state,
      elapsed: since === 0 ? 0 : Math.max(0, now - since),
      remote: handle === 0 ? undefined : remote(handle),
      document: hasDocument ? records.numbers[(at + Header.DOCUMENT_LENGTH) >>> 3]! : undefined,
      received: records.numbers[(at + Header.RECEIVED) >>> 3]!,
      closing: (flags & RecordFlag.Closing) !== 0,
    });
  });
  return found;
}
