import { expect, test } from 'vitest';
import { describeDrivers, outcome, runExample, startServer, stopped } from '../support/examples';
import { rawClient } from '../support/harness';

test.each(['sum-server', 'sum-client'])('%s --help tells the options', async (name) => {
  const { code, stdout } = await runExample(name, ['--help']);
  expect(code).toBe(0);
  expect(stdout).toContain(`usage: node examples/${name}.mjs `);
});

describeDrivers('sum-server', (driver) => {
  test.each(['inline', 'pool'])('sums for many clients, computed by %s', async (apply) => {
    const server = await startServer('sum-server', driver, 2, ['--apply', apply]);
    const options = ['--port', String(server.port), '--n', '25000', '--seconds', '300ms'];
    const { code, stdout, stderr } = await runExample('sum-client', [...options, '8']);
    expect({ code, stderr: withoutWarnings(stderr) }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^[1-9]\d* answers, /);
    const { code: end, stderr: said } = await server.stop();
    expect({ end, said: withoutWarnings(said) }).toEqual({ end: stopped.code, said: '' });
  });

  test('reads up to the end of the input as well, in pieces, and refuses what is no number', async () => {
    const server = await startServer('sum-server', driver, 1, ['--apply', 'pool']);
    const answers: string[] = [];
    for (const pieces of [['10'], ['1', '0', '0\n'], ['x\n'], ['123456789\n'], ['']]) {
      const socket = await rawClient(server.port);
      const answer = outcome(socket);
      for (const piece of pieces) socket.write(piece);
      if (!pieces.at(-1)!.endsWith('\n')) socket.end();
      answers.push((await answer).bytes.toString());
    }
    const no = 'a whole number, please';
    expect(answers).toEqual(['55', '5050', no, no, no]);
    await server.stop();
  });
});

/** The sub-paths are experimental, and say so. */
function withoutWarnings(text: string): string {
  return text.replace(/^\(.*\n/gm, '');
}
