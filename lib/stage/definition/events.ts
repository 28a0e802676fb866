/**
 * The events of stages, by number and by name, and what else a trace tells of. The numbers are those
 * of native/stage/trace.h.
 */
export const enum Event {
  None,
  Entered,
  HandedOff,
  Received,
  Ended,
  Sent,
  FileSent,
  Drain,
  Posted,
  Timeout,
  Closed,
  Abandoned,
  Failed,
  Message,
}

/** What becomes of a connection, beside its events. */
export const enum Step {
  /** Handed to another stage. */
  HandOff = 14,
  /** An answer to a document was given. */
  Reply,
  /** A close was begun. */
  Close,
}

/** Those that a state may have a handler for. */
export const eventNames = [
  'entered',
  'handedOff',
  'received',
  'ended',
  'sent',
  'fileSent',
  'drain',
  'posted',
  'timeout',
  'closed',
  'abandoned',
  'failed',
  'message',
] as const;

/** By number. */
export const names: readonly string[] = ['none', ...eventNames, 'handOff', 'reply', 'close'];
