/**
 * A chat: what a member says goes to all in its room. Several threads have the members' connections,
 * and each line is in memory once, however many it goes to.
 *
 *     node examples/programs/chat.mjs --threads 2
 *     nc 127.0.0.1 7009            # as often as there are members; `/join 5` goes to another room
 *
 * A member that does not read is bounded: when it has its mark to read (1 MiB), what others say is
 * not sent to it until most of that is out; then it is told how much it has missed.
 */
import { Pipeline } from 'completion-port/stages';
import { integer, option, readArguments, serverOptions } from './support/arguments.mjs';
import { runProgram, untilSignal } from './support/program.mjs';
import { Rooms } from './support/rooms.mjs';
import { announce } from './support/server.mjs';

const stage = new URL('./stages/chat.stage.mjs', import.meta.url);

async function main() {
  const { host, port, driver, threads } = readArguments('chat', {
    usage: '[options]',
    about: 'Passes the lines of each member on to all members of its room.',
    options: {
      ...serverOptions(7009),
      threads: option('N', '2', 'threads that have the connections', integer(1, 64)),
    },
  });
  const data = { rooms: Rooms.create() };
  const pipeline = new Pipeline({ chat: { stage, threads, data } }, { driver });
  const address = await pipeline.listen('chat', { host, port, backlog: 4096 });
  const signalled = untilSignal(); // whoever reads the ready line may send one at once
  announce(address, pipeline.driver, threads);
  await signalled;
  await pipeline.close();
  process.exit(); // at once: while Node.js ends by itself, one more signal would kill it
}

await runProgram('chat', main);
