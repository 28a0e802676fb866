import { describe, expect, test } from 'vitest';
import { outputOf, root, runModule } from './support/harness';
import { nouring } from './support/nouring';

const env = { COMPLETION_PORT_DRIVER: undefined };
const report = `
  const port = new CompletionPort();
  port.post(1, 2);
  for (const packet of port.get()) console.log(port.driver, packet.value, port.driverReason);
  await port.close();`;

describe('without io_uring', () => {
  test.each(['EPERM', 'ENOSYS', 'EINVAL'])(
    'P3: %s means epoll, and the reason can be read',
    async (error) => {
      const output = await outputOf(report, { env, launcher: [nouring(), error] });
      expect(output).toMatch(/^epoll 2 ./);
      expect(output).toMatch(/io_uring/);
    },
  );

  test.each(['ENOMEM', 'EMFILE'])('P3: %s is an error, reported as such', async (error) => {
    const script = `
      try { new CompletionPort(); console.log('no error'); }
      catch (error) { console.log(error.code, error instanceof Error); }`;
    expect(await outputOf(script, { env, launcher: [nouring(), error] })).toBe(`${error} true`);
  });

  test('P3: asking for io_uring where there is none is an error', async () => {
    const script = `
      try { new CompletionPort({ driver: 'io_uring' }); console.log('no error'); }
      catch (error) { console.log(error.code); }`;
    expect(await outputOf(script, { env, launcher: [nouring(), 'EPERM'] })).toBe('EPERM');
  });

  test('P3: COMPLETION_PORT_DRIVER=epoll gives epoll everywhere, without a reason to regret', async () => {
    const output = await outputOf(report, { env: { COMPLETION_PORT_DRIVER: 'epoll' } });
    expect(output).toMatch(/^epoll 2/);
  });

  test('P3: COMPLETION_PORT_DRIVER=io_uring does not fall back', async () => {
    const result = await runModule(report, {
      env: { COMPLETION_PORT_DRIVER: 'io_uring' },
      launcher: [nouring(), 'EPERM'],
    });
    expect(result.code).not.toBe(0);
    expect(result.stderr).toContain('EPERM');
  });

  test('what falls back works: files and connections', async () => {
    const script = `
      const port = new CompletionPort();
      const file = await port.open(${JSON.stringify(`${root}package.json`)});
      const { name } = JSON.parse(await file.read({ length: (await file.stat()).size }));
      const listener = await port.listen({ host: '127.0.0.1', port: 0 });
      const accepted = listener.accept();
      const client = await port.connect({ host: '127.0.0.1', port: listener.address().port });
      await client.send(name);
      console.log(port.driver, String(await (await accepted).receive()));
      await port.close();`;
    expect(await outputOf(script, { env, launcher: [nouring(), 'EPERM'] })).toBe(
      'epoll completion-port',
    );
  });
});
