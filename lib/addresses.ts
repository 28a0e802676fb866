/**
 * From names to addresses.
 */
import dns = require('node:dns');
import net = require('node:net');
import { coded } from './errors';

/** At least one, in the order of the system. Rejects with `ENOTFOUND` and the like as node:dns. */
export async function addressesOf(host: string): Promise<string[]> {
  if (net.isIP(host) !== 0) return [host];
  const found = await dns.promises.lookup(host, { all: true });
  if (found.length > 0) return found.map(({ address }) => address);
  const error = coded(new Error(`getaddrinfo ENOTFOUND ${host}`), 'ENOTFOUND');
  throw Object.assign(error, { syscall: 'getaddrinfo', hostname: host });
}
