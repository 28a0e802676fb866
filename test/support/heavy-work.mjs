/** What keeps a thread in a handler until the test raises `gate`. */
import { execFileSync } from 'node:child_process';
import { pbkdf2Sync } from 'node:crypto';
import { readSync } from 'node:fs';
import { runInNewContext } from 'node:vm';

const json = JSON.stringify(Array.from({ length: 50_000 }, (_, i) => ({ i, name: `name ${i}` })));

/** None of these goes through the library, or the event loop. `pipe`: what `read` waits at. */
export function heavyWork(gate, pipe) {
  const open = () => Atomics.load(gate, 0) !== 0;
  return {
    loop() {
      while (!open()) for (let i = 0; i < 1000; i++) Math.sqrt(i);
    },
    json() {
      while (!open()) JSON.parse(json);
    },
    regexp() {
      while (!open()) /^(a+)+$/.test('aaaaaaaaaaaaaaaaaaaaaaab');
    },
    pbkdf2() {
      while (!open()) pbkdf2Sync('secret', 'salt', 20_000, 32, 'sha256');
    },
    exec() {
      while (!open()) execFileSync('sleep', ['0.05']);
    },
    read() {
      readSync(pipe, Buffer.alloc(1)); // the test writes when it has seen what it waits for
    },
    wait() {
      Atomics.wait(gate, 0, 0);
    },
    vm() {
      while (!open()) {
        try {
          runInNewContext('for (;;);', {}, { timeout: 20 });
        } catch (error) {
          if (error.code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
        }
      }
    },
  };
}
