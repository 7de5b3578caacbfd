// The board's rules as tables, in both directions where an order could matter.

import type { Annotation, StrokePoint } from '@bindings/payload';
import { describe, expect, it } from 'vitest';
import { contain, FULL, toPicture, toPixels } from './coords';
import { timeOf, unwrap } from './frame';
import { add, change, erase, newScene, nextStep, redo, undo, visible, type BoardMark, type Scene } from './scene';
import { begin, covers, extend, finish, hit, MAX_POINTS, moved, place, TOOLS } from './tools';

const STYLE = { colour: 'yellow', width: 455 } as const;
const HD = { width: 1280, height: 720 };
const at = (x: number, y: number): StrokePoint => ({ x, y, p: 128 });
const step = (id: string, n: number): BoardMark => ({
  id,
  author: 'ann',
  annotation: { shape: 'step', at: { x: 10, y: 10 }, n, ...STYLE },
});
const ids = (s: Scene) => visible(s.ops).map((m) => m.id);

describe('coordinates', () => {
  it.each([
    ['wide box, bars left and right', { left: 0, top: 0, width: 2000, height: 720 }, { left: 360, top: 0, width: 1280, height: 720 }],
    ['tall box, bars above and below', { left: 10, top: 20, width: 640, height: 800 }, { left: 10, top: 240, width: 640, height: 360 }],
  ])('%s', (_name, box, shown) => {
    expect(contain(box, { width: 1280, height: 720 })).toEqual(shown);
  });

  it('keeps corners and stops at edges', () => {
    const shown = { left: 100, top: 50, width: 640, height: 360 };
    expect(toPicture(100, 50, shown)).toEqual({ x: 0, y: 0 });
    expect(toPicture(740, 410, shown)).toEqual({ x: FULL, y: FULL });
    expect(toPicture(-5, 9999, shown)).toEqual({ x: 0, y: FULL });
    expect(toPicture(NaN, 50, shown)).toEqual({ x: 0, y: 0 });
  });

  it('comes back within a hundredth of a pixel', () => {
    const size = { width: 1280, height: 720 };
    for (let x = 0.5; x < 1280; x += 97.3) {
      const there = toPicture(x, x / 2, { left: 0, top: 0, ...size });
      expect(Math.abs(toPixels(there, size).x - x)).toBeLessThan(0.011);
    }
  });
});

describe('scene', () => {
  it('undoes and redoes its own operations in order', () => {
    let s = add(add(newScene(), step('a', 1)), step('b', 2));
    expect(ids(s)).toEqual(['a', 'b']);
    s = erase(s, 'a');
    expect(ids(s)).toEqual(['b']);
    s = undo(s);
    expect(ids(s)).toEqual(['a', 'b']);
    s = undo(undo(s));
    expect(ids(s)).toEqual([]);
    s = redo(redo(redo(s)));
    expect(ids(s)).toEqual(['b']);
    expect(redo(s)).toBe(s);
  });

  it('forgets what could be redone after something new', () => {
    const s = add(undo(add(newScene(), step('a', 1))), step('b', 1));
    expect(redo(s)).toBe(s);
    expect(ids(s)).toEqual(['b']);
  });

  it('takes a change back to the form before', () => {
    const first = step('a', 1);
    const s = change(add(newScene(), first), 'a', moved(first.annotation, 500, 0));
    expect(visible(s.ops)[0]!.annotation).toMatchObject({ at: { x: 510, y: 10 } });
    expect(visible(undo(s).ops)[0]!.annotation).toMatchObject({ at: { x: 10, y: 10 } });
  });

  it('numbers steps on', () => {
    const s = add(add(newScene(), step('a', 1)), step('b', 2));
    expect(nextStep(s.ops)).toBe(3);
    expect(nextStep(erase(s, 'b').ops)).toBe(2);
  });
});

describe('tools', () => {
  it('knows what part of the picture a mark covers', () => {
    const size = { width: 1280, height: 720 };
    const arrow = covers({ shape: 'arrow', tail: { x: FULL, y: FULL }, tip: { x: 0, y: 0 }, ...STYLE }, size);
    expect(arrow).toEqual({ left: 0, top: 0, right: 1, bottom: 1 });
    const label = covers({ shape: 'text', at: { x: FULL / 2, y: FULL / 2 }, text: 'Loosen this first', ...STYLE }, size);
    expect(label.right).toBeGreaterThan(0.65);
    expect(label.left).toBe(0.5);
  });

  it.each([
    ['pen', 'stroke'],
    ['line', 'stroke'],
    ['circle', 'ellipse'],
    ['arrow', 'arrow'],
    ['rectangle', 'rectangle'],
    ['ellipse', 'ellipse'],
    ['step', 'step'],
  ] as const)('%s draws a %s', (tool, shape) => {
    const draft = extend(begin(tool, at(1000, 1000), STYLE, 4)!, [at(3000, 2000), at(9000, 9000)], { tool, size: HD });
    const mark = finish(draft, tool)!;
    expect(mark.shape).toBe(shape);
    expect(hit([{ id: 'x', author: 'ann', annotation: mark }], { x: 60000, y: 1000 }, { width: 1280, height: 720 }, 8)).toBeNull();
  });

  it.each(TOOLS)('%s can be placed without a pointer or makes no mark at all', (tool) => {
    const drawn = begin(tool, at(5, 5), STYLE, 1);
    expect(place(tool, { x: 30000, y: 30000 }, STYLE, 1, HD) === null).toBe(drawn === null);
  });

  it('takes a click with a dragged shape as nothing, and with the pen as a dot', () => {
    expect(finish(begin('arrow', at(5, 5), STYLE, 1)!)).toBeNull();
    expect(finish(begin('pen', at(5, 5), STYLE, 1)!)).toMatchObject({ points: [at(5, 5), at(5, 5)] });
  });

  it('takes a click with the line as nothing', () => {
    expect(finish(begin('line', at(5, 5), STYLE, 1)!, 'line')).toBeNull();
  });

  it.each([
    [60000, 61000],
    [3000, 61000],
    [2000, 100],
    [60000, 1000],
  ])('a circle pulled to %d, %d is as wide as high, and within the picture', (x, y) => {
    const round = extend(begin('circle', at(30000, 20000), STYLE, 1)!, [at(x, y)], { tool: 'circle', size: HD }) as Annotation & { shape: 'ellipse' };
    const [a, b] = [toPixels(round.a, HD), toPixels(round.b, HD)];
    expect(Math.abs(b.x - a.x)).toBeCloseTo(Math.abs(b.y - a.y), 0);
    expect(Math.sign(round.b.x - round.a.x)).toBe(Math.sign(x - 30000));
    expect(Math.sign(round.b.y - round.a.y)).toBe(Math.sign(y - 20000));
  });

  it('holds lines and arrows to 45 degrees with shift', () => {
    const pull = { tool: 'line', regular: true, size: HD } as const;
    const level = extend(begin('line', at(1000, 30000), STYLE, 1)!, [at(60000, 33000)], pull) as Annotation & { shape: 'stroke' };
    expect(level.points[1]).toEqual({ x: 60000, y: 30000, p: 128 });
    const steep = extend(begin('arrow', at(1000, 30000), STYLE, 1)!, [at(30000, 65000)], { ...pull, tool: 'arrow' }) as Annotation & { shape: 'arrow' };
    const [p, q] = [toPixels(steep.tail, HD), toPixels(steep.tip, HD)];
    expect(q.x - p.x).toBeCloseTo(q.y - p.y, 0);
  });

  it('keeps strokes within the contract', () => {
    const many = Array.from({ length: MAX_POINTS + 500 }, (_, i) => at((i * 20) % 60000, (i * 20) % 50000));
    const drawn = extend(begin('pen', at(0, 0), STYLE, 1)!, many, { tool: 'pen', size: HD });
    expect(drawn).toMatchObject({ shape: 'stroke' });
    expect((drawn as { points: unknown[] }).points.length).toBe(MAX_POINTS);
  });

  it('stops a mark as a whole at the edge', () => {
    const arrow: Annotation = { shape: 'arrow', tail: { x: 100, y: 0 }, tip: { x: 65000, y: 400 }, ...STYLE };
    expect(moved(arrow, 5000, -50)).toMatchObject({ tail: { x: 635, y: 0 }, tip: { x: 65535, y: 400 } });
  });

  it('finds the topmost mark', () => {
    const box = (id: string): BoardMark => ({
      id,
      author: 'ann',
      annotation: { shape: 'rectangle', a: { x: 0, y: 0 }, b: { x: 30000, y: 30000 }, ...STYLE },
    });
    const size = { width: 1280, height: 720 };
    expect(hit([box('a'), box('b')], { x: 30000, y: 15000 }, size, 6)?.id).toBe('b');
    expect(hit([box('a')], { x: 15000, y: 15000 }, size, 6)).toBeNull();
  });
});

describe('frames', () => {
  const info = {
    track: 't',
    source: 'main',
    codec: 'vp8',
    rtp_base: 2 ** 31 - 10,
    start_us: 1_000_000,
    clock_offset_us: 250,
    width: 1280,
    height: 720,
  } as const;

  it.each([0, 1, 3600, 13.25 * 3600, 13.3 * 3600, 40 * 3600])('unwraps after %d s, late or early by a minute', (s) => {
    const full = info.rtp_base + Math.round(s * 90_000);
    const now = info.start_us + info.clock_offset_us + s * 1e6;
    for (const late of [-60e6, 0, 60e6]) expect(unwrap(full % 2 ** 32, info, now + late)).toBe(full);
    expect(timeOf(full, info)).toBeCloseTo(now, 0);
  });

  it('keeps the value of a track without a base', () => {
    const { rtp_base: _base, start_us: _start, ...browser } = info;
    expect(unwrap(77, browser, 5)).toBe(77);
    expect(timeOf(77, browser)).toBeNull();
  });
});
