/** Loading the module that a stage is defined in. */
import { coded } from '../../support/errors';
import type { Stage } from '../api';
import { machineOf } from './definition';

type Exported = Stage | ((data: unknown) => Stage | Promise<Stage>);

/**
 * The stage that `module` exports by default, or that the function it exports makes of `data`. A
 * CommonJS module may export it as `module.exports` or as `exports.default`.
 */
export async function loadStage(name: string, module: string, data: unknown): Promise<Stage> {
  const namespace = (await import(module)) as { default?: unknown };
  const outer = namespace.default as { default?: unknown } | undefined;
  const exported = (outer?.default ?? outer) as Exported | undefined;
  if (machineOf(exported) !== undefined && data !== undefined) {
    throw coded(
      new TypeError(
        `Stage '${name}': its data would reach nobody: ${module} has to export a function of it ` +
          'that returns what defineStage() returns',
      ),
      'ERR_STAGE_MODULE',
    );
  }
  const stage: unknown = typeof exported === 'function' ? await exported(data) : exported;
  if (machineOf(stage) !== undefined) return stage as Stage;
  throw coded(
    new TypeError(
      `Stage '${name}': ${module} has to export what defineStage() returns by default, or a ` +
        'function that returns it',
    ),
    'ERR_STAGE_MODULE',
  );
}
