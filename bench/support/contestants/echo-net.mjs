/**
 * The echo server on node:net.
 */
import net from 'node:net';
import { serve } from '../server.mjs';

const server = net.createServer({ noDelay: true }, (socket) => {
  socket.on('data', (bytes) => {
    if (socket.write(bytes)) return;
    socket.pause();
    socket.once('drain', () => socket.resume());
  });
  socket.on('error', () => socket.destroy());
});
server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => serve(server.address().port));
