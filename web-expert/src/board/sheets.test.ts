// Several people draw at once over a channel that loses, repeats and turns around: everybody ends with the same picture.

import type { Annotation } from '@bindings/payload';
import { describe, expect, it } from 'vitest';
import { layersOn, shownUnder } from './layers';
import { join, marksOf, sheetOf, SheetSender, thin, type Marking, type Sheet } from './sheets';

const frame = { track: '11111111-1111-4111-8111-111111111111', rtp: 2 ** 33 + 7 };
const other = { ...frame, rtp: 900 };
const step = (n: number): Annotation => ({ shape: 'step', at: { x: n, y: n }, n, colour: 'pink', width: 455 });
const mark = (sheet: number, id: string, version: number, n: number | null, on = frame): Marking => ({
  t: 'marking',
  sheet,
  frame: on,
  mark: { id, version, ...(n === null ? {} : { annotation: step(n) }) },
});

/** mulberry32: the same numbers in every run. */
function seeded(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const MESSAGES: Marking[] = [
  mark(5, 'a', 1, 1),
  mark(5, 'a', 2, 9),
  mark(5, 'b', 1, 2),
  mark(5, 'b', 2, null),
  mark(5, 'c', 3, 4),
  mark(4, 'a', 9, 3, other),
  mark(6, 'd', 1, 5, other),
  { t: 'marking', sheet: 5, frame },
  { t: 'marking', sheet: 6, frame: other },
];

describe('sheets', () => {
  it('join both ways round alike, in any grouping, and again without a change', () => {
    const states = MESSAGES.map(sheetOf);
    for (const a of states)
      for (const b of states) {
        expect(join(a, b)).toEqual(join(b, a));
        expect(join(join(a, b), b)).toEqual(join(a, b));
        for (const c of states) expect(join(join(a, b), c)).toEqual(join(a, join(b, c)));
      }
  });

  it.each([1, 2, 3, 4, 5])('come out the same in every order, twice or once (seed %d)', (seed) => {
    const random = seeded(seed);
    const straight = MESSAGES.slice(0, 5).map(sheetOf).reduce(join);
    const turned = [...MESSAGES.slice(0, 5), ...MESSAGES.slice(0, 5)].map((m) => ({ m, at: random() })).sort((a, b) => a.at - b.at);
    expect(turned.map(({ m }) => sheetOf(m)).reduce(join)).toEqual(straight);
    expect(marksOf(straight).map((m) => m.id)).toEqual(['a', 'c']);
  });

  it('let the newer picture win, and a put-away one stay so', () => {
    const seen = [mark(5, 'a', 1, 1), { t: 'marking', sheet: 5, frame } as Marking, mark(5, 'a', 2, 2)].map(sheetOf).reduce(join);
    expect(seen.closed).toBe(true);
    expect(join(seen, sheetOf(mark(6, 'z', 1, 1)))).toMatchObject({ sheet: 6, closed: false });
  });

  it('arrive whole although two of three messages are lost', () => {
    const random = seeded(11);
    const sender = new SheetSender();
    sender.open(frame, 100);
    let far: Sheet | null = null;
    const marks = [1, 2, 3, 4, 5, 6].map((n) => ({ id: `m${n}`, annotation: step(n) }));
    const carry = (times: number) => {
      for (let i = 0; i < times; i++) {
        const m = sender.next();
        if (!m || random() < 0.66) continue;
        const s = sheetOf(JSON.parse(JSON.stringify(m)) as Marking);
        far = far ? join(s, far) : s;
      }
    };
    sender.update(marks.slice(0, 3));
    carry(4);
    sender.update([...marks.slice(1), { id: 'm1', annotation: step(77) }]);
    carry(6);
    sender.update(marks.filter((m) => m.id !== 'm4'));
    carry(120);
    expect(marksOf(far!)).toEqual(marks.filter((m) => m.id !== 'm4'));
  });

  it('rise in number over a reload and within a second', () => {
    const sender = new SheetSender();
    const numbers = [100.2, 100.9, 50].map((now) => {
      sender.open(frame, now);
      sender.update([{ id: 'a', annotation: step(1) }]);
      return sender.next()!.sheet;
    });
    expect(numbers).toEqual([100, 101, 102]);
  });

  it('say nothing of a picture that was not drawn on', () => {
    const sender = new SheetSender();
    sender.open(frame, 1);
    expect(sender.next()).toBeNull();
    expect(sender.close()).toBeNull();
  });

  it('fit the channel with the longest stroke and text', () => {
    const points = Array.from({ length: 4000 }, (_, i) => ({ x: 65000 - i, y: 60000 + (i % 5000), p: 128 }));
    const long: Annotation = { shape: 'stroke', points, colour: 'yellow', width: 65535 };
    const small = thin(long) as typeof long;
    expect([small.points[0], small.points.at(-1)]).toEqual([points[0], points.at(-1)]);
    const text: Annotation = { shape: 'text', at: { x: 65535, y: 65535 }, text: 'Ä'.repeat(500), colour: 'yellow', width: 65535 };
    for (const annotation of [long, text]) {
      const sender = new SheetSender();
      sender.open({ ...frame, rtp: Number.MAX_SAFE_INTEGER }, 2 ** 32 - 1);
      sender.update([{ id: frame.track, annotation }]);
      expect(new TextEncoder().encode(JSON.stringify(sender.next())).length).toBeLessThanOrEqual(1_200);
    }
  });
});

describe('layers', () => {
  const sheets = { ann: sheetOf(mark(5, 'a', 1, 1)), me: sheetOf(mark(5, 'm', 1, 1)), bea: sheetOf(mark(9, 'b', 1, 2, other)) };
  const sent = [
    { id: 'i1', author: 'cem', body: { frame, marks: [step(3)] } },
    { id: 'i2', author: 'me', body: { frame, marks: [step(4)] } },
    { id: 'i3', author: 'cem', body: { frame: other, marks: [step(5)] } },
  ] as never;

  it('are of others, on this very picture', () => {
    expect(layersOn(frame, 'me', sheets, sent).map((l) => [l.author, l.marks.map((m) => m.id)])).toEqual([
      ['ann', ['a']],
      ['cem', ['i1 0']],
    ]);
    expect(layersOn(other, 'me', sheets, sent).map((l) => l.author)).toEqual(['bea', 'cem']);
  });

  it('can be hidden one by one', () => {
    const layers = layersOn(frame, 'me', sheets, sent);
    expect(shownUnder(layers, new Set()).length).toBe(2);
    expect(shownUnder(layers, new Set(['ann'])).map((m) => m.id)).toEqual(['i1 0']);
    expect(shownUnder(layers, new Set(['ann', 'cem']))).toEqual([]);
  });
});
