/**
 * Node's permission model. Native code passes it by, so it is asked here.
 */
import path = require('node:path');
import { OpenFlag } from '../native/layout';
import { accessDenied } from './errors';

interface Permission {
  has(scope: string, reference?: string): boolean;
}

const permission = (process as unknown as { permission?: Permission }).permission;

/** Throws `ERR_ACCESS_DENIED` when the program may not open `file` so. */
export function mayOpen(file: string, flags: number): void {
  if (permission === undefined) return;
  const resource = path.resolve(file);
  if (flags & OpenFlag.Read && !permission.has('fs.read', resource)) {
    throw accessDenied('FileSystemRead', resource);
  }
  const writes = OpenFlag.Write | OpenFlag.Create | OpenFlag.Truncate | OpenFlag.Append;
  if (flags & writes && !permission.has('fs.write', resource)) {
    throw accessDenied('FileSystemWrite', resource);
  }
}

/**
 * Throws `ERR_ACCESS_DENIED` under the permission model: as in Node.js, which checks paths, and not
 * what a descriptor stands for.
 */
export function mayChange(file: string | undefined): void {
  if (permission === undefined) return;
  throw accessDenied('FileSystemWrite', file ?? '');
}

/** Throws `ERR_ACCESS_DENIED` when the program may not use the network. */
export function mayUseNet(host: string): void {
  if (permission === undefined || permission.has('net')) return;
  // Older versions know no such permission, and answer false to any question about it.
  if (!process.allowedNodeEnvironmentFlags.has('--allow-net')) return;
  throw accessDenied('Net', host);
}
