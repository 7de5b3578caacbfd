// Which step is on the screen and which receipts follow: the twin of the tests of the glasses' instructions.

import type { ReceiptState } from '@bindings/payload';
import { describe, expect, it } from 'vitest';
import type { InstructionState } from '../protocol/fold';
import { photoName } from './photo';
import { SEEN_MS, Steps } from './steps.svelte';

function step(id: string, receipts: InstructionState['receipts'] = {}, replaces?: string): InstructionState {
  const body = { frame: { track: 't', rtp: 1 }, confidence: 'exact' as const, width: 1280, height: 720, at_ms: 1, text: id, marks: [], ...(replaces ? { replaces } : {}) };
  return { id, seq: 1, author: 'ann', at_ms: 1, body, receipts };
}
const states = (r: { state: ReceiptState }[]) => r.map((x) => x.state);

describe('steps', () => {
  it('tell shown once the picture stands, seen after three seconds, done once, and never go back', () => {
    const steps = new Steps();
    steps.take([], true);
    steps.take([step('a')], true);
    expect(steps.current).toBe('a');
    expect(steps.tick(10_000), 'nothing was shown yet').toEqual([]);
    expect(steps.presented('a', 'snapshot', 1_000)).toEqual([{ instruction: 'a', state: 'shown', at_ms: 1_000, picture: 'snapshot' }]);
    expect(steps.presented('a', 'snapshot', 1_100)).toEqual([]);
    expect(steps.tick(1_000 + SEEN_MS - 1)).toEqual([]);
    expect(states(steps.tick(1_000 + SEEN_MS))).toEqual(['seen']);
    expect(states(steps.answer(true, 5_000))).toEqual(['done']);
    expect(steps.current).toBeNull();
    steps.go('a');
    expect(steps.answer(false, 6_000)).toEqual([]);
    expect(steps.presented('a', 'none', 7_000)).toEqual([]);
  });

  it('count a touch as seen only while it is shown, and start anew when the screen was dark', () => {
    const steps = new Steps();
    steps.take([], true);
    steps.take([step('a')], true);
    expect(steps.touched(10)).toEqual([]);
    steps.presented('a', 'snapshot', 20);
    steps.hidden();
    expect(steps.touched(30)).toEqual([]);
    expect(steps.tick(20 + SEEN_MS)).toEqual([]);
    steps.presented('a', 'snapshot', 40);
    expect(states(steps.touched(50))).toEqual(['seen']);
  });

  it('bring the next open one after an answer, in order, and let one look back', () => {
    const steps = new Steps();
    const all = [step('a'), step('b'), step('c')];
    steps.take([], true);
    steps.take(all, true);
    expect(steps.current, 'the newest comes up').toBe('c');
    expect(steps.place('c')).toEqual([3, 3]);
    steps.answer(true, 1);
    expect(steps.current).toBe('a');
    steps.answer(false, 2);
    expect(steps.current).toBe('b');
    steps.turn(-1);
    expect([steps.current, steps.stateOf('a'), steps.isOpen('a'), steps.waiting]).toEqual(['a', 'refused', false, 1]);
    steps.turn(-1);
    expect(steps.current).toBe('a');
  });

  it('show the newest open one after a reload, with what the log knows', () => {
    const steps = new Steps();
    const all = [step('a', { shown: 1, seen: 2, done: 3 }), step('b', { shown: 4 }), step('c', { refused: 5 })];
    steps.take(all, false);
    expect(steps.current).toBeNull();
    steps.take(all, true);
    expect(steps.current).toBe('b');
    expect(steps.presented('b', 'snapshot', 9), 'shown already, before the reload').toEqual([]);
    expect(states(steps.answer(true, 10))).toEqual(['done']);
  });

  it('take a replaced one away, and give back an answer that could not be filed', () => {
    const steps = new Steps();
    steps.take([], true);
    steps.take([step('a')], true);
    steps.take([step('a'), step('b', {}, 'a')], true);
    expect([steps.list.map((i) => i.id), steps.current]).toEqual([['b'], 'b']);
    const [receipt] = steps.answer(true, 1);
    expect(steps.current).toBeNull();
    steps.undo(receipt!);
    expect([steps.current, steps.isOpen('b')]).toEqual(['b', true]);
  });
});

describe('photos', () => {
  it('are named by the local time they were taken', () => {
    expect(photoName(new Date(2026, 10, 22, 14, 3, 9).getTime(), 'image/jpeg')).toBe('foto-20261122-140309.jpg');
    expect(photoName(new Date(2026, 0, 2, 0, 0, 0).getTime(), 'image/png')).toBe('foto-20260102-000000.png');
  });
});
