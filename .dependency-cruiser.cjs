/**
 * How lib/ stands: floors, each of which imports from those below it alone, types included. Held by
 * `npm run lint`; `npm run picture` draws it.
 */

/** From the top. What stands on one floor does not know its neighbours. */
const floors = [
  ['(index|stages|micro|cpu|bullmq|doctor|node|node-net|cli|api-check)\\.ts', '[a-z-]*esm\\.mts'],
  ['bullmq/'],
  ['doctor/', 'cpu/', 'stage/', 'node/'],
  ['micro/'],
  ['port\\.ts'],
  ['packets/'],
  ['handles/'],
  ['await/'],
  ['thread/'],
  ['support/'],
  ['native/'],
  ['loader\\.ts'],
  ['api\\.ts'],
];

/** And those of the stages. */
const ofStages = [
  ['stage/(api-check\\.ts|pool/)'],
  ['stage/(run/|inspector/)'],
  ['stage/record/'],
  ['stage/definition/'],
  ['stage/(failures|api)\\.ts'],
];

const within = (rooms) => `^lib/(${rooms.join('|')})`;

/** Entries may name one another: the ones for ES modules give what the others have. */
const neighbours = floors.slice(1).flatMap((rooms) =>
  rooms.flatMap((room) => {
    const others = rooms.filter((other) => other !== room);
    return others.length === 0 ? [] : [{ from: within([room]), to: within(others) }];
  }),
);

const upwards = [floors, ofStages].flatMap((storeys) =>
  storeys.slice(1).map((rooms, index) => ({
    from: within(rooms),
    to: within(storeys.slice(0, index + 1).flat()),
  })),
);

module.exports = {
  forbidden: [
    {
      name: 'no circles',
      comment: 'Two files that import each other can only be read together.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    ...[...upwards, ...neighbours].map(({ from, to }) => ({
      name: 'downwards only',
      comment: 'What is above hands itself in, behind an interface of what is below.',
      severity: 'error',
      from: { path: from },
      to: { path: to },
    })),
    {
      name: 'one floor for each file of the stages',
      severity: 'error',
      from: {},
      to: { path: '^lib/stage/', pathNot: within(ofStages.flat()) },
    },
    {
      name: 'one floor for each file',
      comment: 'A new folder of lib/ has a place among the floors.',
      severity: 'error',
      from: {},
      to: { path: '^lib/', pathNot: within(floors.flat()) },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
  },
};
