/**
 * completion-port/doctor: what `npx completion-port doctor --json` prints, for programs.
 *
 * @module completion-port/doctor
 */
export { diagnose } from './doctor/diagnosis';

export type {
  BinaryFinding,
  CapabilityFinding,
  Diagnosis,
  DriverFinding,
  Limit,
  Limits,
  NudgeFinding,
  Restrictions,
  System,
} from './doctor/findings';
export type { Origin, Unusable } from './loader';
