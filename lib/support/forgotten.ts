/**
 * `COMPLETION_PORT_CHECK=handles`: tells of handles of await style that a program has lost without
 * closing them. Nobody can close these any more; they stay open until the port is closed. Found when
 * the garbage collector has found the object.
 */
import { checks } from './checks';
import { isOfLibrary } from './stack';

/** Read when the library is loaded: what is not checked costs nothing. */
export const checksHandles = checks('handles');

/** Frames looked at: those of the library come first. */
const DEPTH = 30;

interface Origin {
  readonly kind: string;
  stack: string;
  /** Whoever keeps a weak reference needs it no longer. */
  readonly gone: () => void;
}

/** Of handles. */
const origins = new WeakMap<object, Origin>();
/** Where operations were begun, one of which may open a handle. */
const begun = new WeakMap<object, string>();
const lost = new FinalizationRegistry<Origin>(({ kind, stack, gone }) => {
  gone();
  process.emitWarning(`A ${kind} was never closed, and nobody can close it any more`, {
    type: 'ForgottenHandleWarning',
    code: 'CP_WARN_HANDLE_FORGOTTEN',
    detail: `It was opened${stack}`,
  });
});

/** The lines that say where, without the first one and those of the library. */
function stackOf(above: (...args: never[]) => unknown): string {
  const holder = { stack: '' };
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = DEPTH;
  Error.captureStackTrace(holder, above);
  Error.stackTraceLimit = stackTraceLimit;
  const [, ...lines] = holder.stack.split('\n');
  const own = lines.findIndex((line) => !isOfLibrary(line));
  return `\n${lines.slice(Math.max(own, 0)).join('\n')}`;
}

/** A handle has come to be. `gone`: called when it is lost. */
export function follow(handle: { readonly kind: string }, gone: () => void): void {
  const origin = { kind: handle.kind, stack: stackOf(follow), gone };
  origins.set(handle, origin);
  lost.register(handle, origin, handle);
}

/** It is closed, or gone with its port. */
export function unfollow(handle: object): void {
  lost.unregister(handle);
}

/** An operation begins. */
export function begins(operation: object): void {
  begun.set(operation, stackOf(begins));
}

/** It has given a value: a handle was opened where the operation was begun. */
export function gives(operation: object, value: unknown): void {
  const origin = typeof value === 'object' && value !== null ? origins.get(value) : undefined;
  const stack = begun.get(operation);
  if (origin !== undefined && stack !== undefined) origin.stack = stack;
}
