/**
 * The table of a thread's handles.
 */
import { expect, test } from 'vitest';
import { Handles } from '../dist/thread/handle-table.js';

const named = (id: number) => ({ id }) as Parameters<Handles['add']>[0];
const PLACES = 1 << 20;

test('two lives of one place are told apart, and forgotten one by one', () => {
  const handles = new Handles();
  const [first, second] = [named(7), named(7 + PLACES)];
  handles.add(first);
  handles.add(second);
  expect(handles.size).toBe(2);
  expect(handles.get(first.id)).toBe(first);
  expect(handles.get(second.id)).toBe(second);
  expect([...handles]).toEqual([first, second]);

  handles.delete(first);
  expect(handles.get(first.id)).toBeUndefined();
  expect(handles.get(second.id)).toBe(second);
  handles.delete(second);
  expect(handles.size).toBe(0);
  expect([...handles]).toEqual([]);
});

test('an object that another one stands in for does not take it along', () => {
  const handles = new Handles();
  const [old, now] = [named(9), named(9)];
  handles.add(old);
  handles.add(now);
  expect(handles.size).toBe(1);
  handles.delete(old);
  expect(handles.get(9)).toBe(now);
  handles.delete(now);
  handles.delete(now);
  expect(handles.size).toBe(0);
});

test('a name with the greatest generation is found at its place', () => {
  const handles = new Handles();
  const last = named(0xfff_00003);
  handles.add(last);
  expect(handles.get(last.id)).toBe(last);
  expect(handles.get(3)).toBeUndefined();
  handles.delete(last);
  expect([...handles]).toEqual([]);
});
