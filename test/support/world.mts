/**
 * What of the contract suite does not run on connections of a world in memory
 * (docs/internals/simulator.md), and why. Single tests say so themselves (`skipInWorld`).
 */
const notTcp = 'a world has no sockets but those of TCP';
const withPeers = 'its peers are sockets of the system';
const noConnections = 'nothing of it goes by a connection';

export const notInWorld: Readonly<Record<string, string>> = {
  'contract/adversary.test.ts': withPeers,
  'contract/detaching.test.ts': 'descriptors of a world are none of the system’s',
  'contract/fuzz.test.ts': withPeers,
  'contract/messages.test.ts': notTcp,
  'contract/passing.test.ts': notTcp,
  'contract/path-connections.test.ts': notTcp,
  'contract/resets.test.ts': withPeers,
  'contract/shares.test.ts': withPeers,
  'contract/unix-sockets.test.ts': notTcp,
  'contract/work-conservation.test.ts': withPeers,
  'micro/shared-model.test.ts': noConnections,
  stage: 'its clients are sockets of the system',
  cpu: noConnections,
  node: 'Node.js’s own sockets are at one end',
};
