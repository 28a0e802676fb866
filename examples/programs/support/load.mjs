/**
 * The clients of `npm start`, in a process of their own. Does what its parent says, one thing after
 * the other, and tells it how things are going, and the result.
 */
import { makeCorpus } from './corpus.mjs';
import { Fleet } from './clients.mjs';

const fleets = new Map();

const commands = {
  async connect({ fleet, bytes, answer, ...where }) {
    const corpus = makeCorpus(process.argv[2], bytes, answer);
    fleets.set(fleet, await Fleet.connect({ ...where, corpus }));
  },
  run({ fleet, ...work }) {
    return fleets.get(fleet).run({
      ...work,
      onWindow: (window) => process.send({ [window]: true }),
      onProgress: ({ documents, bytes, wrong }) => {
        process.send({ progress: { documents, bytes, wrong } });
      },
    });
  },
  end({ fleet }) {
    fleets.get(fleet).end();
    fleets.delete(fleet);
  },
};

async function obey({ command, ...told }) {
  try {
    process.send({ result: (await commands[command](told)) ?? true });
  } catch (error) {
    process.send({ failed: error.message });
  }
}

process.on('SIGINT', () => undefined); // the parent decides
process.on('disconnect', () => process.exit());
process.on('message', (message) => void obey(message));
