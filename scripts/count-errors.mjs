// A reporter of vitest for .ci/run: how many errors came outside of the tests, which the report in JSON
// has not. Written to the file that COMPLETION_PORT_CI_ERRORS names.
import { writeFileSync } from 'node:fs';
import { env } from 'node:process';

export default class CountErrors {
  onTestRunEnd(_modules, errors) {
    writeFileSync(env.COMPLETION_PORT_CI_ERRORS, String(errors.length));
  }
}
