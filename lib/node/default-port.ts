/**
 * The port of whoever names none: one for each thread, made with the first socket or server. What
 * completes on it comes back in this thread's event loop, so one thread runs at a time.
 */
import { CompletionPort } from '../port';
import { invalidType } from '../support/validate';

let own: CompletionPort | undefined;

export function defaultPort(): CompletionPort {
  if (own === undefined || own.closed) own = new CompletionPort({ concurrency: 1 });
  return own;
}

/** The port that option `over` names; throws for what is none. */
export function portGiven(over: unknown, name = 'options.over'): CompletionPort | undefined {
  if (over === undefined || over instanceof CompletionPort) return over;
  throw invalidType(name, 'an instance of CompletionPort', over);
}

/** The same, or the thread's own. */
export function portOf(over: unknown): CompletionPort {
  return portGiven(over) ?? defaultPort();
}
