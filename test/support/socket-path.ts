/** Where a listener can listen that has a path: the file of a UNIX socket, or a named pipe. */
import path from 'node:path';
import { temporaryDirectory, windows } from './harness';

let pipes = 0;

/** A fresh one of this system. */
export function newSocketPath(): string {
  if (!windows) return path.join(temporaryDirectory(), 'socket');
  return `\\\\.\\pipe\\completion-port-test-${process.pid}-${pipes++}-${Date.now()}`;
}
