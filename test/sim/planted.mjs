/**
 * Mistakes that are made on purpose (`CP_PLANTED` in the sources), and the property that each
 * breaks; `crash`: an assertion of the library's. `also`: another one that it breaks, which is found
 * first in some worlds. `rare`: it takes more than a few hundred seeds.
 */
export const mistakes = [
  { name: 'two final packets', property: 'one final packet for each operation' },
  { name: 'packets stay behind', property: 'nothing of a dead handle' },
  {
    name: 'a close that waits for nothing',
    property: "no operation meets another's descriptor",
    also: 'nothing of a dead handle',
  },
  { name: 'a key is held twice', property: 'a key is never held twice' },
  { name: 'back to the end of the queue', property: 'first in, first out' },
  { name: 'a message stays in the ring', property: 'a message comes once' },
  { name: 'no look after the idle word', property: 'work conservation' },
  { name: 'one thread too many', property: 'limit of concurrency' },
  { name: 'sends side by side', property: 'each byte in its place' },
  { name: 'writes side by side', property: 'each byte in its place' },
  { name: 'a reset is an end', property: 'a reset is never told as an end' },
  { name: 'memory stays in use', property: 'buffers and handles come back' },
  {
    name: 'a message that wakes nobody',
    property: 'no wait without a waker',
    also: 'progress',
  },
  { name: 'no limit of the queue', property: 'queues are bounded' },
  { name: 'nobody looks for those who starve', property: 'progress', rare: true },
  { name: 'nobody is told of abandoned keys', property: 'no wait without a waker' },
  { name: 'a sync that does nothing', property: 'what was synced stays' },
  {
    name: 'what overflows is lost',
    property: 'no wait without a waker',
    also: 'each byte in its place',
  },
  { name: 'what EBUSY refuses is lost', property: 'no wait without a waker' },
  { name: 'a deadline stays behind', property: 'crash' },
  // What the simulator has found, and the library does no more.
  { name: 'a read does not ask for the reset', property: 'a reset is never told as an end' },
  { name: 'a close is lost without a thread', property: 'buffers and handles come back' },
  { name: 'a close does not wait for a refusal', property: 'nothing of a dead handle' },
  // Of the native stage.
  { name: 'an answer is left out', property: 'each document is answered once', workload: 'frames' },
  { name: 'a byte is dropped', property: 'each byte in its place', workload: 'frames' },
  { name: 'a record is kept', property: 'every record is released', workload: 'frames' },
  { name: 'nobody is told of hand-offs', property: 'work conservation', workload: 'frames' },
];
