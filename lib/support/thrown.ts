/**
 * Errors on their way from one thread to another: structured clone would leave out what a program
 * has added to them.
 */

/** What was thrown, for V8's serializer. */
export type Thrown = { readonly value: unknown } | { readonly error: PlainError };

interface PlainError {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  /** Whether it is a DOMException, as an AbortError or a DataCloneError may be. */
  readonly dom: boolean;
  /** `cause`, `code`, and whatever else is the error's own and can be cloned. */
  readonly properties: readonly (readonly [string, Thrown])[];
}

/** Causes of causes: the chain may have no end. */
const DEEPEST = 16;
const BUILT_IN = ['name', 'message', 'stack'];

/** `clones`: whether a value can go over. */
export function toThrown(thrown: unknown, clones: (value: unknown) => boolean, depth = 0): Thrown {
  if (!isError(thrown)) return { value: clones(thrown) ? thrown : String(thrown) };
  const properties: [string, Thrown][] = [];
  for (const key of depth < DEEPEST ? ownNames(thrown) : []) {
    const value = tried(() => (thrown as unknown as Record<string, unknown>)[key]);
    if (key === 'errors' && Array.isArray(value)) {
      const list = (value as unknown[]).map((one) => toThrown(one, clones, depth + 1));
      properties.push([key, { value: list }]);
    } else if (isError(value)) properties.push([key, toThrown(value, clones, depth + 1)]);
    else if (clones(value)) properties.push([key, { value }]);
  }
  return {
    error: {
      name: text(tried(() => thrown.name)) ?? 'Error',
      message: text(tried(() => thrown.message)) ?? '',
      stack: text(tried(() => thrown.stack)),
      dom: thrown instanceof DOMException,
      properties,
    },
  };
}

export function fromThrown(thrown: Thrown): unknown {
  if ('value' in thrown) return thrown.value;
  const { name, message, stack, dom, properties } = thrown.error;
  const error = dom ? new DOMException(message, name) : newError(name, message);
  const set = (key: string, value: unknown, enumerable = true): void => {
    Object.defineProperty(error, key, { value, enumerable, writable: true, configurable: true });
  };
  if (error.name !== name) set('name', name, false);
  set('stack', stack, false);
  for (const [key, one] of properties) {
    const hidden = key === 'cause' || key === 'errors';
    const list = key === 'errors' && 'value' in one && Array.isArray(one.value);
    set(key, list ? (one.value as Thrown[]).map(fromThrown) : fromThrown(one), !hidden);
  }
  return error;
}

const classes: Record<string, new (message: string) => Error> = {
  EvalError,
  RangeError,
  ReferenceError,
  SyntaxError,
  TypeError,
  URIError,
};

function newError(name: string, message: string): Error {
  if (name === 'AggregateError') return new AggregateError([], message);
  return new (classes[name] ?? Error)(message);
}

function isError(value: unknown): value is Error {
  return tried(() => value instanceof Error) === true;
}

function ownNames(error: Error): string[] {
  const names = tried(() => Object.getOwnPropertyNames(error)) ?? [];
  return names.filter((name) => !BUILT_IN.includes(name));
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

/** A program may throw anything, a revoked Proxy as well. */
function tried<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
