/**
 * The clients of `npm start`, in a process of their own. Told by its parent what to do; tells it how
 * things are going, and the result.
 */
import { makeCorpus } from './corpus.mjs';
import { sendDocuments } from './clients.mjs';

async function run({ bytes, answer, ...work }) {
  const corpus = makeCorpus(process.argv[2], bytes, answer);
  const result = await sendDocuments({
    ...work,
    corpus,
    onWindow: (window) => process.send({ [window]: true }),
    onProgress: ({ documents, bytes, wrong }) => {
      process.send({ progress: { documents, bytes, wrong } });
    },
  });
  process.send({ result });
}

process.on('SIGINT', () => undefined); // the parent decides
process.on('disconnect', () => process.exit(1));
process.on('message', (work) =>
  run(work).then(
    () => process.disconnect(),
    (error) => process.send({ failed: error.message }),
  ),
);
