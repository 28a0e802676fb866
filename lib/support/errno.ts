/**
 * Error numbers. Drivers answer with Linux's on every platform; a program sees those of Node.js on
 * its own.
 */
import { getSystemErrorMap } from 'node:util';

/** Linux's numbers: drivers answer with them on every platform. */
export const ECANCELED = -125;
export const ETIMEDOUT = -110;
export const EADDRNOTAVAIL = -99;
export const EADDRINUSE = -98;
export const EACCES = -13;
export const EBADF = -9;
export const EINVAL = -22;
export const EAFNOSUPPORT = -97;

/** An error of the system as Node.js names it on this platform. */
export interface SystemError {
  readonly errno: number;
  readonly code: string;
  readonly text: string;
}

/** What Windows' driver answers with (native/driver/errno.h). */
const names: Record<number, string> = {
  [-1]: 'EPERM',
  [-2]: 'ENOENT',
  [-3]: 'ESRCH',
  [-4]: 'EINTR',
  [-5]: 'EIO',
  [-6]: 'ENXIO',
  [-7]: 'E2BIG',
  [EBADF]: 'EBADF',
  [-11]: 'EAGAIN',
  [-12]: 'ENOMEM',
  [EACCES]: 'EACCES',
  [-14]: 'EFAULT',
  [-16]: 'EBUSY',
  [-17]: 'EEXIST',
  [-18]: 'EXDEV',
  [-19]: 'ENODEV',
  [-20]: 'ENOTDIR',
  [-21]: 'EISDIR',
  [EINVAL]: 'EINVAL',
  [-23]: 'ENFILE',
  [-24]: 'EMFILE',
  [-26]: 'ETXTBSY',
  [-27]: 'EFBIG',
  [-28]: 'ENOSPC',
  [-30]: 'EROFS',
  [-32]: 'EPIPE',
  [-36]: 'ENAMETOOLONG',
  [-38]: 'ENOSYS',
  [-39]: 'ENOTEMPTY',
  [-40]: 'ELOOP',
  [-71]: 'EPROTO',
  [-88]: 'ENOTSOCK',
  [-89]: 'EDESTADDRREQ',
  [-90]: 'EMSGSIZE',
  [-93]: 'EPROTONOSUPPORT',
  [-95]: 'ENOTSUP',
  [EAFNOSUPPORT]: 'EAFNOSUPPORT',
  [EADDRINUSE]: 'EADDRINUSE',
  [EADDRNOTAVAIL]: 'EADDRNOTAVAIL',
  [-100]: 'ENETDOWN',
  [-101]: 'ENETUNREACH',
  [-103]: 'ECONNABORTED',
  [-104]: 'ECONNRESET',
  [-105]: 'ENOBUFS',
  [-106]: 'EISCONN',
  [-107]: 'ENOTCONN',
  [ETIMEDOUT]: 'ETIMEDOUT',
  [-111]: 'ECONNREFUSED',
  [-113]: 'EHOSTUNREACH',
  [-114]: 'EALREADY',
  [ECANCELED]: 'ECANCELED',
};

let byName: Map<string, SystemError> | undefined;

/** Node.js has numbers of its own where the system has none of that name. */
function nodesOwn(code: string): SystemError | undefined {
  byName ??= new Map(
    [...getSystemErrorMap()].map(([errno, [code, text]]) => [code, { errno, code, text }]),
  );
  return byName.get(code);
}

function find(errno: number): SystemError | undefined {
  if (process.platform === 'win32') return nodesOwn(names[errno] ?? '');
  const found = getSystemErrorMap().get(errno);
  return found && { errno, code: found[0], text: found[1] };
}

export function describe(errno: number): SystemError {
  const unknown = { errno, code: `Unknown system error ${errno}`, text: 'unknown error' };
  return find(errno) ?? unknown;
}
