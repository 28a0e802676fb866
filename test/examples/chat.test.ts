import type net from 'node:net';
import { expect, test } from 'vitest';
import { rawClient, until } from '../support/harness';
import { describeDrivers, startServer, stopped } from '../support/examples';

/** A member, and what it has heard. */
class Member {
  text = '';

  constructor(readonly socket: net.Socket) {
    socket.on('data', (bytes) => (this.text += bytes));
  }

  static async join(port: number, room?: number): Promise<Member> {
    const member = new Member(await rawClient(port));
    await until(() => member.text.includes('room 0\n'));
    if (room !== undefined) member.socket.write(`/join ${room}\n`);
    if (room !== undefined) await until(() => member.text.endsWith(`room ${room}\n`));
    member.text = '';
    return member;
  }
}

describeDrivers('chat', (driver) => {
  test('what a member says goes to all in its room, and to nobody else', async () => {
    const server = await startServer('chat', driver, 2);
    const first = await Promise.all(Array.from({ length: 30 }, () => Member.join(server.port, 1)));
    const second = await Promise.all(Array.from({ length: 10 }, () => Member.join(server.port, 2)));
    first[3]!.socket.write('hel');
    first[7]!.socket.write('from seven\n');
    await until(() => first.every(({ text }) => text === 'from seven\n'));
    first[3]!.socket.write('lo\nand more\n');
    await until(() => first.every(({ text }) => text === 'from seven\nhello\nand more\n'));
    second[0]!.socket.write('to two\n');
    await until(() => second.every(({ text }) => text === 'to two\n'));
    // Some leave in the middle.
    for (const { socket } of first.splice(0, 15)) socket.resetAndDestroy();
    first[0]!.socket.write('who is left\n');
    await until(() => first.every(({ text }) => text.endsWith('who is left\n')));
    expect(second.every(({ text }) => text === 'to two\n')).toBe(true);
    expect(await server.stop()).toMatchObject(stopped);
  });

  test('a member that does not read keeps nobody from hearing, and is told what it has missed', async () => {
    const server = await startServer('chat', driver, 2);
    const [slow, quick] = [await Member.join(server.port, 1), await Member.join(server.port, 1)];
    slow.socket.pause();
    const line = `${'x'.repeat(4000)}\n`;
    for (let said = 1; said <= 5000; said++) {
      quick.socket.write(line);
      if (said % 100 === 0) await until(() => quick.text.length === said * line.length);
    }
    slow.socket.resume();
    await until(() => /you have missed \d+ messages\n/.test(slow.text));
    quick.socket.write('at last\n');
    await until(() => slow.text.endsWith('at last\n'));
    expect(slow.text).not.toContain('room 0'); // it is where it was
    expect(await server.stop()).toMatchObject(stopped);
  });

  test('lines are looked at one by one, however many come at once', async () => {
    const server = await startServer('chat', driver, 2);
    const [zero, five] = [await Member.join(server.port), await Member.join(server.port, 5)];
    const member = await Member.join(server.port);
    member.socket.write('before\n/join 5\nhello five\n/joined?\n');
    await until(() => zero.text === 'before\n');
    await until(() => five.text === 'hello five\n/joined?\n');
    // What it said before it went came back to it where it was by then.
    const heard = ['before', '* you are in room 5', 'hello five', '/joined?'];
    await until(() => member.text.split('\n').sort().join() === ['', ...heard].sort().join());
    expect(await server.stop()).toMatchObject(stopped);
  });
});
