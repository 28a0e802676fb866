/**
 * Handlers that are generators: each is run by a micro-thread. What runs those is loaded with the first
 * such handler; most stages have none.
 */
import type { MicroThread } from '../../micro/api';
import type * as spawning from '../../micro/spawn';
import type { Suspended } from '../../api';

type Handling = Generator<Suspended, unknown, unknown>;

/** Milliseconds that clean-up may take at the end of a stage: less than its threads are given. */
const GRACE = 500;

let micro: typeof spawning | undefined;

/** The handlers of one thread that wait. */
export class Generators {
  /** They are being ended, and what they return is of no interest. */
  ending = false;
  private readonly living = new Set<MicroThread<unknown>>();
  private readonly stage: string;
  private readonly definedAt: string;
  /** By event. */
  private readonly sites = new Map<string, { readonly name: string; readonly stack: string }>();

  /** `definedAt`: where the stage is. */
  constructor(stage: string, definedAt: string | undefined) {
    this.stage = stage;
    this.definedAt = definedAt ?? 'an unknown place';
  }

  /** Runs it up to where it first waits. */
  start(generator: Generator, event: string): PromiseLike<unknown> {
    micro ??= require('../../micro/spawn') as typeof spawning;
    const site = this.siteOf(event);
    const started = micro.spawnHandler(generator as Handling, site.name, GRACE, site);
    this.living.add(started);
    const forget = (): void => void this.living.delete(started);
    started.then(forget, forget);
    return started;
  }

  /** Nobody spawns a handler: what is shown is its name, and where its stage is defined. */
  private siteOf(event: string): { readonly name: string; readonly stack: string } {
    let site = this.sites.get(event);
    if (site === undefined) {
      const name = `${this.stage}.${event}`;
      this.sites.set(event, (site = { name, stack: `\n    at ${name} (${this.definedAt})` }));
    }
    return site;
  }

  /** Their `finally` blocks run. Resolves when all have ended. */
  async end(): Promise<void> {
    this.ending = true;
    const living = [...this.living];
    for (const one of living) one.cancel('the stage ends');
    await Promise.allSettled(living);
  }
}
