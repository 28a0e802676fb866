/**
 * `COMPLETION_PORT_CHECK=handles`: tells of handles of await style that a program has lost without
 * closing them. Nobody can close these any more; they stay open until the port is closed. Found when
 * the garbage collector has found the object.
 */
import { checks } from './checks';

/** Read when the library is loaded: what is not checked costs nothing. */
export const checksHandles = checks('handles');

interface Origin {
  readonly kind: string;
  stack: string;
}

/** Of handles. */
const origins = new WeakMap<object, Origin>();
/** Where operations were begun, one of which may open a handle. */
const begun = new WeakMap<object, string>();
const lost = new FinalizationRegistry<Origin>(({ kind, stack }) => {
  process.emitWarning(`A ${kind} was never closed, and nobody can close it any more`, {
    type: 'ForgottenHandleWarning',
    code: 'CP_WARN_HANDLE_FORGOTTEN',
    detail: `It was opened${stack}`,
  });
});

/** The lines that say where, without the first one. */
function stackOf(above: (...args: never[]) => unknown): string {
  const holder = { stack: '' };
  Error.captureStackTrace(holder, above);
  return holder.stack.slice(holder.stack.indexOf('\n'));
}

/** A handle has come to be. */
export function follow(handle: { readonly kind: string }): void {
  const origin = { kind: handle.kind, stack: stackOf(follow) };
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
