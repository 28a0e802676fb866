/**
 * Passes lines on to all members of a room: the example's stage, or the same on node:net.
 */
import net from 'node:net';
import { Pipeline } from 'completion-port/stages';
import { Rooms } from '../../../examples/programs/support/rooms.mjs';
import { readOptions } from '../options.mjs';
import { assertDriver } from '../ports.mjs';
import { serve } from '../server.mjs';

const where = { host: '127.0.0.1', port: 0 };

async function byStages({ driver, threads }) {
  assertDriver(driver);
  const stage = new URL('../../../examples/programs/stages/chat.stage.mjs', import.meta.url);
  const data = { rooms: Rooms.create() };
  const pipeline = new Pipeline({ chat: { stage, threads, data } }, { driver });
  await pipeline.ready();
  return (await pipeline.listen('chat', { ...where, backlog: 4096 })).port;
}

/** Without the bound for slow members, and without what is told of it. */
async function byNet() {
  const rooms = new Map();
  const server = net.createServer({ noDelay: true }, (socket) => {
    let members;
    let rest;
    const enter = (room) => {
      members?.delete(socket);
      if (!rooms.has(room)) rooms.set(room, new Set());
      members = rooms.get(room).add(socket);
      socket.write(`* you are in room ${room}\n`);
    };
    enter(0);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => members.delete(socket));
    socket.on('data', (bytes) => {
      const all = rest === undefined ? bytes : Buffer.concat([rest, bytes]);
      const end = all.lastIndexOf(10) + 1;
      rest = end === all.length ? undefined : all.subarray(end);
      if (end === 0) return;
      const lines = all.subarray(0, end);
      const join = lines[0] === 0x2f ? /^\/join (\d+)\n$/.exec(String(lines)) : null;
      if (join !== null) return enter(Number(join[1]));
      for (const member of members) member.write(lines);
    });
  });
  await new Promise((resolve) => server.listen({ ...where, backlog: 4096 }, resolve));
  return server.address().port;
}

const options = readOptions();
serve(await (options.style === 'net' ? byNet() : byStages(options)));
