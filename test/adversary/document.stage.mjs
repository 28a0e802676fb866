/** Answers each document with itself, framed as it came. */
import { defineStage } from '../../dist/stages-esm.mjs';

function framed({ bytes }) {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(bytes?.length ?? 0);
  return bytes === undefined ? head : Buffer.concat([head, bytes]);
}

export default defineStage({
  states: {
    document: {
      handedOff: (c) => c.reply(Buffer.concat(c.documents.map(framed))),
    },
  },
});
