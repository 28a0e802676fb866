/**
 * The chat's only stage: who is in which room, and lines that go to all of a room, whichever threads
 * their connections are at.
 */
import { defineStage } from 'completion-port/stages';
import { Rooms } from '../support/rooms.mjs';

const LF = 10;
const SLASH = 47;
const JOIN = /^\/join (\d{1,4})\r?\n$/;
/** Bytes of a line at most. */
const LONGEST = 4096;

export default ({ rooms: memory }) => {
  const rooms = new Rooms(memory);

  function enter(c, room) {
    rooms.leave(c.record.room, c.record.place);
    c.record.room = room;
    c.record.place = rooms.enter(room, c.key);
    if (c.record.place >= 0) return void c.send(`* you are in room ${room}\n`);
    c.send('* that room is full, or there is none\n');
    return c.close();
  }

  /** To all in the room, the member itself among them. */
  function say(c, lines) {
    try {
      c.publish(rooms.members(c.record.room), lines);
    } catch (error) {
      // The queue is bounded: nobody is told of these lines, and the member may say them again.
      if (error.code !== 'ERR_QUEUE_FULL') throw error;
      c.send('* not said: too much is going on\n');
    }
  }

  /** Whole lines are said, but for those that are for the server. What follows waits for its end. */
  function received(c, bytes) {
    const end = bytes.lastIndexOf(LF) + 1;
    if (bytes.length - end > LONGEST) return c.close();
    if (end < bytes.length) c.unread(bytes.subarray(end));
    let said = 0;
    for (let start = 0; start < end;) {
      const next = bytes.indexOf(LF, start) + 1;
      const join = bytes[start] === SLASH ? JOIN.exec(String(bytes.subarray(start, next))) : null;
      if (join !== null) {
        if (start > said) say(c, bytes.subarray(said, start));
        said = next;
        const closing = enter(c, Number(join[1]));
        if (closing !== undefined) return closing;
      }
      start = next;
    }
    if (said < end) say(c, bytes.subarray(said, end));
    return undefined;
  }

  return defineStage({
    record: { room: 'u32', place: 'i32', missed: 'u32' },
    states: {
      // Apart from the next one, which a slow member comes back to.
      joining: {
        entered(c) {
          c.record.place = -1;
          if (c.handle === undefined) return c.close();
          return enter(c, 0) ?? 'listening';
        },
      },
      listening: {
        // What it has not read so far is all that a slow member costs.
        message: (c, lines) => (c.send(lines) ? undefined : 'behind'),
      },
      // It has its mark to read: what others say meanwhile is not for it.
      behind: {
        message: (c) => void c.record.missed++,
        drain(c) {
          c.send(`* you have missed ${c.record.missed} messages\n`);
          c.record.missed = 0;
          return 'listening';
        },
      },
    },
    otherwise: {
      received,
      closed: (c) => rooms.leave(c.record.room, c.record.place),
    },
  });
};
