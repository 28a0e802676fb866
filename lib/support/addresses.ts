/**
 * From names to addresses. node:dns and node:net are loaded with the first: half of the time that
 * the library takes to load would be theirs.
 */
import { coded } from './errors';

/** At least one, in the order of the system. Rejects with `ENOTFOUND` and the like as node:dns. */
export async function addressesOf(host: string): Promise<string[]> {
  if (process.getBuiltinModule('node:net').isIP(host) !== 0) return [host];
  const dns = process.getBuiltinModule('node:dns');
  const found = await dns.promises.lookup(host, { all: true });
  if (found.length > 0) return found.map(({ address }) => address);
  const error = coded(new Error(`getaddrinfo ENOTFOUND ${host}`), 'ENOTFOUND');
  throw Object.assign(error, { syscall: 'getaddrinfo', hostname: host });
}
