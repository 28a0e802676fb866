import { SharedChannel } from 'completion-port/micro';
import { CompletionPort } from 'completion-port';

const port = new CompletionPort();
const channel = new SharedChannel(port, 4);
await channel.put({ of: 'values' });
console.log((await channel.take()).of);
await port.close();
