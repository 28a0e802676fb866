// Files, awaited and as streams.
import { pipeline } from 'node:stream/promises';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { CompletionPort } from 'completion-port';

const port = new CompletionPort();
const path = fileURLToPath(import.meta.url);
const open = () => port.open(path);
let length = 0;
for await (const chunk of (await open()).chunks()) length += chunk.length;
const copy = process.argv[2];
await pipeline((await open()).readable(), (await port.open(copy, 'w')).writable());
const copied = await text((await port.open(copy)).readable());
await port.close();
console.log(copied.length === length && length > 0);
