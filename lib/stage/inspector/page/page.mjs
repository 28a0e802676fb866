/**
 * The inspector's page: listens to samples, and asks for the connections now and then.
 */
import { Chart } from './chart.mjs';
import * as format from './format.mjs';

const KEPT = 300;
const LISTED = 50;
const LIST_INTERVAL = 2000;
const COLORS = 8;

const element = (id) => document.getElementById(id);

function make(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className !== undefined) made.className = className;
  return made;
}

/** Connections without a state are between two stages, or have just arrived. */
const stateName = (state) => state || 'on its way';

const color = (i) => `--color-${i % COLORS}`;

/** What happened from one sample to the next, a second. */
function rate(samples, value) {
  return samples.map((sample, i) => {
    const before = samples[i - 1];
    if (before === undefined) return null;
    const seconds = (sample.time - before.time) / 1000;
    return seconds > 0 ? Math.max(0, value(sample) - value(before)) / seconds : null;
  });
}

/** The plots of one stage. */
class StageView {
  #name;
  #facts;
  #charts;

  constructor(name, { states }) {
    this.#name = name;
    const section = make('section', undefined, 'stage');
    const heading = make('h2', name);
    heading.append((this.#facts = make('small')));
    const grid = make('div', undefined, 'charts');
    section.dataset.stage = name;
    section.append(heading, grid);
    element('stages').append(section);
    this.#charts = this.#makeCharts(grid, Object.keys(states));
  }

  /** Each with what its columns are. */
  #makeCharts(grid, states) {
    const chart = (title, names, colors, form, style) =>
      new Chart(grid, { title, names, colors, format: form, ...style });
    const stacked = { stacked: true };
    return [
      [
        chart(
          'connections by state',
          states.map(stateName),
          states.map((_, i) => color(i)),
          format.count,
          stacked,
        ),
        (samples) => states.map((state) => samples.map((one) => one.states[state] ?? 0)),
      ],
      [
        chart('queue depth', ['waiting'], [color(1)], format.count),
        (samples) => [samples.map((one) => one.queueDepth)],
      ],
      [
        chart('threads', ['running', 'idle'], [color(2), color(3)], format.count, {
          stacked: true,
          stepped: true,
        }),
        (samples) => [
          samples.map((one) => one.running),
          samples.map((one) => Math.max(0, one.threads - one.running)),
        ],
      ],
      [
        chart('packets per second', ['packets'], [color(0)], format.count),
        (samples) => [rate(samples, (one) => one.packets)],
      ],
      [
        chart(
          'p99 since the beginning',
          ['queueing', 'handling'],
          [color(4), color(5)],
          format.time,
        ),
        (samples) => [samples.map((one) => one.queueing), samples.map((one) => one.handling)],
      ],
    ];
  }

  update(times, samples) {
    const mine = samples.map((sample) => ({ time: sample.time, ...sample.stages[this.#name] }));
    for (const [chart, columns] of this.#charts) chart.update(times, columns(mine));
    const { connections, threads, packets, handedOff, failures } = mine.at(-1);
    const facts = { connections, threads, packets, 'handed off': handedOff, failures };
    this.#facts.textContent = Object.entries(facts)
      .map(([name, value]) => `${format.count(value ?? 0)} ${name}`)
      .join(' · ');
  }

  redraw() {
    for (const [chart] of this.#charts) chart.redraw();
  }
}

class Page {
  #samples = [];
  #views = new Map();

  begin({ pid, samples }) {
    element('process').textContent = `process ${pid}`;
    document.title = `completion-port ${pid}`;
    this.#samples = samples;
    this.#show();
  }

  add(sample) {
    this.#samples.push(sample);
    if (this.#samples.length > KEPT) this.#samples.shift();
    this.#show();
  }

  redraw() {
    for (const view of this.#views.values()) view.redraw();
  }

  #show() {
    const latest = this.#samples.at(-1);
    if (latest === undefined) return;
    const times = this.#samples.map((sample) => sample.time / 1000);
    for (const [name, stage] of Object.entries(latest.stages)) {
      if (!this.#views.has(name)) this.#addView(name, stage);
      this.#views.get(name).update(times, this.#samples);
    }
    const { connections, refused, restarts } = latest;
    const totals = { connections, refused, 'threads replaced': restarts };
    element('totals').replaceChildren(
      ...Object.entries(totals).flatMap(([name, value]) => [
        make('dt', name),
        make('dd', format.count(value)),
      ]),
    );
  }

  #addView(name, stage) {
    this.#views.set(name, new StageView(name, stage));
    addChoices('stage', [name]);
    addChoices('state', Object.keys(stage.states));
  }
}

/** Choices of a filter; the first one is "all". */
function addChoices(field, names) {
  const select = element('filter').elements[field];
  if (select.options.length === 0) select.add(new Option('all', ''));
  const known = new Set(Array.from(select.options, ({ value }) => value));
  for (const name of names.filter(Boolean)) {
    if (!known.has(name)) select.add(new Option(name, name));
  }
}

/** The connection whose events are shown. */
let chosen;

function keyOf(key) {
  const cell = make('td', undefined, 'number');
  const button = make('button', String(key));
  button.type = 'button';
  button.addEventListener('click', () => choose(key));
  cell.append(button);
  return cell;
}

function rowOf({ key, stage, state, elapsed, remote, document: brought, received }) {
  const row = make('tr', undefined, key === chosen ? 'chosen' : undefined);
  row.append(
    keyOf(key),
    make('td', stage),
    make('td', stateName(state)),
    make('td', format.age(elapsed), 'number'),
    make('td', remote ?? '–'),
    make('td', brought === undefined ? '–' : format.bytes(brought.length ?? brought), 'number'),
    make('td', format.bytes(received), 'number'),
  );
  return row;
}

async function listConnections() {
  const query = new URLSearchParams({ limit: LISTED });
  for (const { name, value } of element('filter').elements)
    if (value !== '') query.set(name, value);
  const response = await fetch(`connections.json?${query}`);
  if (!response.ok) return;
  const { total, connections } = await response.json();
  const shown = total > connections.length ? `, some of each state: ${connections.length}` : '';
  element('count').textContent = `${total.toLocaleString('en')}${shown}`;
  // A key that has the focus would lose it.
  if (document.activeElement?.closest('#connections')) return;
  element('connections').replaceChildren(...connections.map(rowOf));
}

// ---- one connection

function choose(key) {
  chosen = key;
  document.activeElement?.blur();
  void listConnections();
  void showChosen();
}

async function showChosen() {
  const key = chosen;
  element('one').hidden = key === undefined;
  if (key === undefined) return;
  const response = await fetch(`connection.json?key=${key}`);
  if (key !== chosen) return;
  element('one-key').textContent = key;
  if (!response.ok) {
    element('one-now').textContent = 'is gone';
    return;
  }
  const { stage, state, elapsed, remote, closed, trace } = await response.json();
  const where = `${stage}, ${stateName(state)}, for ${format.age(elapsed)}`;
  element('one-now').textContent = closed
    ? `has ended in ${where}`
    : [where, remote].filter(Boolean).join(' · ');
  element('one-none').hidden = trace.length > 0;
  element('trace').replaceChildren(...trace.map((entry, i) => entryRow(entry, trace[i - 1])));
}

/** When, by the clock, and how long after the one before. */
function entryRow({ stage, state, event, thread, time, bytes }, before) {
  const row = make('tr', undefined, event === 'failed' ? 'failed' : undefined);
  const clock = new Date(time);
  const seconds = `${clock.toLocaleTimeString('en-GB')}.${String(clock.getMilliseconds()).padStart(3, '0')}`;
  row.append(
    make('td', seconds, 'number'),
    make('td', before ? format.time(Math.max(0, time - before.time) * 1000) : '–', 'number'),
    make('td', stage),
    make('td', stateName(state)),
    make('td', event),
    make('td', bytes > 0 ? format.bytes(bytes) : '–', 'number'),
    make('td', String(thread), 'number'),
  );
  return row;
}

// ---- micro-threads

function microRow(thread, { id, name, state, operation, of, elapsed, parent, spawnedAt }) {
  const row = make('tr');
  row.append(
    make('td', thread),
    make('td', String(id), 'number'),
    make('td', name || '–'),
    make('td', state),
    make('td', [operation, of].filter(Boolean).join(' of ') || '–'),
    make('td', elapsed === undefined ? '–' : format.age(elapsed), 'number'),
    make('td', parent === undefined ? '–' : String(parent), 'number'),
    make('td', spawnedAt),
  );
  return row;
}

/** Nothing is shown before there is one. */
async function listMicroThreads() {
  const response = await fetch('micro-threads.json');
  if (!response.ok) return;
  const { threads } = await response.json();
  const total = threads.reduce((sum, { count = 0 }) => sum + count, 0);
  const rows = threads.flatMap(({ thread, rows: own = [] }) =>
    own.map((one) => microRow(thread, one)),
  );
  const busy = threads.filter(({ count }) => count === undefined).map(({ thread }) => thread);
  const more = total > rows.length ? `, of which ${rows.length} are shown` : '';
  const silent = busy.length > 0 ? `; too busy to answer: ${busy.join(', ')}` : '';
  element('micro').hidden = element('micro').hidden && total === 0;
  element('micro-count').textContent = `${total.toLocaleString('en')}${more}${silent}`;
  element('micro-threads').replaceChildren(...rows);
}

/** One request after another; none while nobody looks. */
async function keepListing() {
  for (;;) {
    if (!document.hidden) {
      for (const look of [listConnections, showChosen, listMicroThreads]) {
        await look().catch(() => undefined);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, LIST_INTERVAL));
  }
}

const page = new Page();
const events = new EventSource('events');
events.addEventListener('history', ({ data }) => page.begin(JSON.parse(data)));
events.addEventListener('sample', ({ data }) => page.add(JSON.parse(data)));
function tellLink(text, live) {
  element('link').textContent = text;
  element('link').classList.toggle('live', live);
}
events.addEventListener('open', () => tellLink('live', true));
events.addEventListener('error', () => tellLink('no connection; trying again', false));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => page.redraw());
element('filter').addEventListener('change', () => void listConnections());
element('one-close').addEventListener('click', () => choose(undefined));
void keepListing();
