// A stage in two threads, and the inspector.
import { once } from 'node:events';
import net from 'node:net';
import { Pipeline } from 'completion-port/stages';

const stage = new URL('./echo.stage.mjs', import.meta.url);
const pipeline = new Pipeline({ echo: { stage, threads: 2 } });
const { port } = await pipeline.listen('echo', { host: '127.0.0.1', port: 0 });
const inspector = await pipeline.inspector({ port: 0 });
const client = net.connect(port, '127.0.0.1');
client.write('echoed');
const [bytes] = await once(client, 'data');
client.end();
const page = await (await fetch(inspector.url)).text();
await pipeline.close();
console.log(String(bytes), page.length > 1000);
