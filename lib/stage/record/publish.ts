/**
 * One message for many connections of a pipeline, wherever they are.
 */
import type { Message } from '../../api';
import * as validate from '../../support/validate';
import type { PortThread } from '../../thread/port-thread';
import { Header, type Records } from './record';

/** How many connections were told, and whether a stage's queue had no room for all that are there. */
export interface Published {
  readonly count: number;
  readonly full: boolean;
}

/**
 * `here`: whoever looks at the message. `threadOf`: who posts to the port of that number; undefined:
 * nobody can. Connections that are gone are left out; one that goes on meanwhile is followed (rule Q2).
 */
export function publishTo(
  records: Records,
  keys: unknown,
  message: Message,
  here: PortThread,
  threadOf: (port: number) => PortThread | undefined,
): Published {
  const all = validate.keys(keys, 'keys');
  const content = here.contentOf(message);
  let [count, full] = [0, false];
  for (const [port, those] of byPort(records, all)) {
    const thread = threadOf(port);
    if (thread === undefined) continue;
    if (thread.publish(those, port, content)) {
      count += those.length;
    } else {
      thread.assertPostable();
      full = true;
    }
  }
  return { count, full };
}

/** Each key is looked at once: its connection may go on at any moment. */
function byPort(records: Records, keys: Uint32Array): Iterable<[number, Uint32Array]> {
  const { words } = records;
  // As a rule all are at one stage: those of the first are gathered in place.
  let [first, count] = [0, 0];
  let others: Map<number, number[]> | undefined;
  for (const key of keys) {
    if (!records.live(key)) continue;
    const port = words[(records.offset(key) + Header.PORT) >>> 2]!;
    if (count === 0) first = port;
    if (port === first) {
      keys[count++] = key;
      continue;
    }
    others ??= new Map<number, number[]>();
    const list = others.get(port);
    if (list === undefined) others.set(port, [key]);
    else list.push(key);
  }
  if (count === 0) return [];
  const here: [number, Uint32Array] = [first, keys.subarray(0, count)];
  if (others === undefined) return [here];
  return [
    here,
    ...Array.from(
      others,
      ([port, list]) => [port, Uint32Array.from(list)] as [number, Uint32Array],
    ),
  ];
}
