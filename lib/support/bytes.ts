/**
 * What a typed array is, whatever a program has given it as `length` or `buffer`. Memory is reserved
 * by this and then copied into by the engine, which asks nobody.
 */
const typedArray = Object.getPrototypeOf(Uint8Array.prototype) as object;

function getterOf(prototype: object, name: string): ((this: unknown) => unknown) | undefined {
  // eslint-disable-next-line @typescript-eslint/unbound-method -- it is called with what it is asked of
  return Object.getOwnPropertyDescriptor(prototype, name)?.get;
}

const realLength = getterOf(typedArray, 'length')!;
const realBuffer = getterOf(typedArray, 'buffer')!;
const realOffset = getterOf(typedArray, 'byteOffset')!;
/** Undefined on a Node.js without resizable ArrayBuffers. */
const isResizable = getterOf(ArrayBuffer.prototype, 'resizable');

export function lengthOf(bytes: Uint8Array): number {
  return realLength.call(bytes) as number;
}

export function bufferOf(bytes: Uint8Array): ArrayBufferLike {
  return realBuffer.call(bytes) as ArrayBufferLike;
}

/** The same bytes, in a view whose methods go by that length. */
export function honest(bytes: Uint8Array): Uint8Array {
  const length = lengthOf(bytes);
  return bytes.length === length ? bytes : realOf(bytes, length);
}

/** The first `length` of its bytes, in a view that stays as long, whatever its memory does. */
export function realOf(bytes: Uint8Array, length: number): Uint8Array {
  return new Uint8Array(
    realBuffer.call(bytes) as ArrayBuffer,
    realOffset.call(bytes) as number,
    length,
  );
}

/** Whether nobody can make it longer: it is not shared, and its memory has one size. */
export function hasOneSize(bytes: Uint8Array): boolean {
  const buffer = realBuffer.call(bytes);
  return buffer instanceof ArrayBuffer && isResizable?.call(buffer) !== true;
}
