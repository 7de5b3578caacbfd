// What single kinds of events mean for the pages.

import type { LinkStatePayload } from '@bindings/payload';
import { expect, it } from 'vitest';
import { momentText } from '../ui/moments';
import { applyEntry, newCaseView } from './fold';
import type { Entry } from './log';

const entry = (seq: number, kind: string, payload: unknown): Entry =>
  ({ author: { id: `e${seq}`, kind, author: 'w', session: 's', captured_at_ms: 9_000 }, server: { seq }, payload }) as unknown as Entry;

it('a link is as its owner said last, and was so when that began', () => {
  const view = newCaseView('c');
  const slow: LinkStatePayload = { at_ms: 4_000, state: 'poor', why: 'slow', kbit: 310 };
  applyEntry(view, entry(1, 'link.state', slow));
  expect(view.links['w']).toEqual({ session: 's', body: slow });
  applyEntry(view, entry(2, 'link.state', { at_ms: 5_000, state: 'offline', why: 'silent' }));
  applyEntry(view, entry(3, 'link.state', { at_ms: 9_000, state: 'good' }));
  expect(view.links['w']?.body.state).toBe('good');
  expect(view.moments.map((m) => [m.at_ms, m.detail])).toEqual([[4_000, 'slow'], [5_000, 'silent'], [9_000, 'good']]);
  const said = view.moments.map((m) => momentText(view, m));
  expect(said.every((s) => !s.title.includes('link.state'))).toBe(true);
  expect(said[0]?.detail).toBe('310 kbit/s');
});

it('one that cannot be read is no moment', () => {
  const view = newCaseView('c');
  applyEntry(view, entry(1, 'link.state', undefined));
  expect(view.moments).toEqual([]);
});
