/**
 * completion-port/bullmq: computation on other machines, by way of BullMQ.
 *
 * @module completion-port/bullmq
 */
process.emitWarning(
  'completion-port/bullmq may change in any minor version',
  'ExperimentalWarning',
);

export { bullmq } from './bullmq/policy';

export type { BullmqOptions, BullmqPolicy, BullmqStats } from './bullmq/api';
