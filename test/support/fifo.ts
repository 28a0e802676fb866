/**
 * What bytes flow through, without positions, and reading waits for: a FIFO, or on Windows, which
 * has none, a named pipe.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, writeSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { onTestFinished } from 'vitest';
import { temporaryDirectory, windows } from './harness';

/** One that somebody else holds open for writing. */
export interface WrittenFifo {
  readonly name: string;
  write(text: string): void;
  /** Nobody does any more. */
  end(): void;
}

/** One from which somebody else reads. */
export interface ReadFifo {
  readonly name: string;
  /** What was read, when all who wrote have gone. */
  readonly everything: Promise<Buffer>;
}

function newFifo(): string {
  const name = path.join(temporaryDirectory(), 'fifo');
  execFileSync('mkfifo', [name]);
  return name;
}

let pipes = 0;

/** The server's end, once there is somebody at the other. */
async function newPipe(): Promise<{ name: string; connection: Promise<net.Socket> }> {
  const name = `\\\\.\\pipe\\completion-port-test-${process.pid}-${pipes++}`;
  const server = net.createServer().listen(name);
  await once(server, 'listening');
  const connection = once(server, 'connection').then(([socket]: net.Socket[]) => {
    socket!.on('error', () => {});
    onTestFinished(() => void socket!.destroy());
    return socket!;
  });
  onTestFinished(() => void server.close());
  return { name, connection };
}

export async function writtenFifo(): Promise<WrittenFifo> {
  if (windows) {
    const { name, connection } = await newPipe();
    return {
      name,
      write: (text) => void connection.then((socket) => socket.write(text)),
      end: () => void connection.then((socket) => socket.destroySoon()),
    };
  }
  const name = newFifo();
  const descriptor = openSync(name, 'r+');
  let open = true;
  const end = (): void => {
    if (open) closeSync(descriptor);
    open = false;
  };
  onTestFinished(end);
  return { name, write: (text) => void writeSync(descriptor, text), end };
}

export async function readFifo(): Promise<ReadFifo> {
  if (windows) {
    const { name, connection } = await newPipe();
    return { name, everything: connection.then(buffer) };
  }
  const name = newFifo();
  const reader = spawn('cat', [name], { stdio: ['ignore', 'pipe', 'inherit'] });
  return { name, everything: buffer(reader.stdout) };
}
