/**
 * Sends `--file` whole for each byte received, with node:fs and node:net.
 */
import fs from 'node:fs';
import net from 'node:net';
import { readOptions } from '../options.mjs';
import { serve } from '../server.mjs';

const { file } = readOptions();

const server = net.createServer({ noDelay: true }, (socket) => {
  let asked = 0;
  const next = () => {
    fs.createReadStream(file)
      .once('end', () => --asked > 0 && next())
      .pipe(socket, { end: false });
  };
  socket.on('data', (bytes) => {
    const busy = asked > 0;
    asked += bytes.length;
    if (!busy) next();
  });
  socket.on('error', () => socket.destroy());
});
server.listen({ host: '127.0.0.1', port: 0 }, () => serve(server.address().port));
