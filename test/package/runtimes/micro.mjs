import { sleep, spawn } from 'completion-port/micro';

const thread = spawn(function* () {
  yield* sleep(10);
  return 42;
});
console.log(await thread);
