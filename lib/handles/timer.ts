/**
 * Timers that answer through the port.
 */
import type * as api from '../api';
import type { TimerStartOptions } from '../api';
import { Kind } from '../native/kinds';
import { invalidState, timedOut, type Subject } from '../support/errors';
import { asNothing, Handle, type Answer, type Style } from './handle';
import { AWAIT_OPTIONS, type OperationOptions } from '../await/operation';
import { Stream } from '../await/stream';
import { Alarm } from '../support/timers';
import * as validate from '../support/validate';

const about: Subject = {};
/** Ten thousand years. */
const LONGEST = 10_000 * 365 * 24 * 3600 * 1000;

/**
 * A timer: `port.timer()`. Times are in milliseconds. Deadlines of the thread's own on every driver.
 * What its public members do stands in lib/api.ts.
 */
export class Timer<S extends Style = Style> extends Handle<S> {
  get kind(): 'timer' {
    return 'timer';
  }

  wait(this: Timer<'await'>, delay: number, options?: OperationOptions): Answer<'await', void> {
    this.assertStyle('await', 'wait()');
    return this.plain(Kind.Timer, asNothing, options, milliseconds(delay, 'delay'));
  }

  every(this: Timer<'await'>, interval: number, options?: OperationOptions): api.AsyncLoop<number> {
    this.assertStyle('await', 'every()');
    const time = milliseconds(interval, 'interval');
    if (time === 0) throw validate.outOfRange('interval', '> 0', interval);
    return new Ticks(this, time, options);
  }

  start(this: Timer<'packet'>, delay: number, options: TimerStartOptions = {}): void {
    this.assertStyle('packet', 'start()');
    validate.options(options);
    validate.known(options, 'options', ['repeat']);
    const { repeat = false } = options;
    const first = milliseconds(delay, 'delay');
    const interval = typeof repeat === 'boolean' ? first : milliseconds(repeat, 'options.repeat');
    if (repeat !== false && interval === 0) {
      throw validate.outOfRange('options.repeat', '> 0', repeat);
    }
    this.request(Kind.Timer, asNothing, undefined, first, repeat === false ? 0 : interval);
  }

  stop(this: Timer<'packet'>): void {
    this.cancel();
  }

  /** @internal */
  override subject(): Subject {
    return about;
  }

  private assertStyle(style: Style, what: string): void {
    this.assertOpen();
    if (this.style === style) return;
    throw invalidState(`${what} is for timers ${style === 'await' ? 'without' : 'with'} a key`);
  }
}

function milliseconds(value: unknown, name: string): number {
  const time = validate.number(value, name);
  if (!(time >= 0 && time <= LONGEST))
    throw validate.outOfRange(name, `>= 0 && <= ${LONGEST}`, value);
  return time;
}

class Ticks extends Stream<number> {
  private readonly timer: Timer<'await'>;
  private readonly interval: number;
  private readonly timeout: number;
  private token = -1;
  private count = 0;
  private alarm: Alarm | undefined = undefined;

  constructor(timer: Timer<'await'>, interval: number, options: OperationOptions = {}) {
    validate.options(options);
    validate.known(options, 'options', AWAIT_OPTIONS);
    super(timer, Kind.Timer, options);
    this.timer = timer;
    this.interval = interval;
    this.timeout = validate.timeout(options.timeout);
  }

  protected override waits(): void {
    if (this.timeout === 0 || this.alarm !== undefined) return;
    this.alarm = new Alarm(this.timeout, () => this.stop(timedOut('timer', about)));
  }

  override answered(error: number, result: number, _at: number, more: boolean): void {
    if (error === 0) this.count += result;
    else this.ended(error);
    if (!more) {
      this.token = -1;
      this.inFlight--;
    }
    this.wake();
  }

  protected override proceed(): void {
    if (this.ending || this.token >= 0) return;
    this.timer.assertOpen();
    this.token = this.thread.add(this);
    this.inFlight++;
    const { token, interval } = this;
    this.thread.submissions.startTimer(this.timer.id, token, interval);
  }

  protected override take(): number | undefined {
    if (this.count === 0) return undefined;
    const { count } = this;
    this.count = 0;
    this.alarm?.cancel();
    this.alarm = undefined;
    return count;
  }

  protected override cancel(): void {
    if (this.token >= 0) this.thread.cancel(this.token);
  }

  protected override finish(): void {
    this.alarm?.cancel();
  }
}
