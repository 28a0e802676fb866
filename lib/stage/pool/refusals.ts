/**
 * Connections that a stage refuses as they come: beyond `maxConnections` of its listener, or because
 * the pipeline has no record for them. Native code turns them away; no stage hears of them.
 */
import diagnostics = require('node:diagnostics_channel');
import type { Entry } from '../../thread/awaited';
import type { PortThread } from '../../thread/port-thread';
import { setTimeout } from '../../support/timers';
import type { Pipeline } from '../api';

const refused = diagnostics.channel('completion-port:connection:refused');
/** Milliseconds from one message to the next: whoever is flooded is not to be busy with that, too. */
const PAUSE = 100;

/** Tells of those of one stage. */
export class Refusals implements Entry {
  private readonly pipeline: Pipeline;
  private readonly stage: string;
  private readonly portThread: PortThread;
  private told = 0;

  constructor(pipeline: Pipeline, stage: string, portThread: PortThread) {
    this.pipeline = pipeline;
    this.stage = stage;
    this.portThread = portThread;
    this.watch();
  }

  answered(): void {
    const { pipeline, stage, portThread } = this;
    if (portThread.closed || portThread.closing) return;
    const before = this.told;
    this.told = portThread.native.stats().refused;
    if (refused.hasSubscribers) refused.publish({ pipeline, stage, count: this.told - before });
    setTimeout(() => this.watch(), PAUSE).unref();
  }

  private watch(): void {
    const { portThread } = this;
    if (portThread.closed || portThread.closing) return;
    portThread.native.refusal(portThread.add(this), this.told);
    portThread.schedule();
  }
}
