// Zoom and pan: the picture under the pointer stays, marks stay where they are.

import { describe, expect, it } from 'vitest';
import { toPicture, toPixels } from './coords';
import { MAX_ZOOM, panned, spread, transform, viewBox, WHOLE, ZOOM_STEP, zoomed } from './view';

const box = { left: 40, top: 30, width: 960, height: 540 };

describe('view', () => {
  it.each([
    [0.5, 0.5],
    [0, 0],
    [1, 0.3],
    [0.9, 1],
  ])('keeps what lies at %d, %d of the stage under the pointer, in and out', (x, y) => {
    const at = { x: box.left + x * box.width, y: box.top + y * box.height };
    const before = toPicture(at.x, at.y, spread(WHOLE, box));
    const near = zoomed(WHOLE, 3.7, { x, y });
    const after = toPicture(at.x, at.y, spread(near, box));
    expect(Math.abs(after.x - before.x)).toBeLessThanOrEqual(1);
    expect(Math.abs(after.y - before.y)).toBeLessThanOrEqual(1);
    expect(zoomed(near, 1 / 3.7, { x, y })).toEqual(WHOLE);
  });

  it('stops at the edges and at its limits', () => {
    expect(zoomed(WHOLE, 0.2)).toEqual(WHOLE);
    expect(zoomed(WHOLE, 1e6).zoom).toBe(MAX_ZOOM);
    const near = zoomed(WHOLE, 2);
    expect(panned(near, 99, -99)).toEqual({ zoom: 2, x: 0.5, y: 0 });
    expect(panned(WHOLE, 1, 1)).toEqual(WHOLE);
  });

  it('lays picture, marks and pointer over one another', () => {
    const view = panned(zoomed(WHOLE, 2.5, { x: 0.2, y: 0.7 }), 0.1, -0.05);
    const whole = spread(view, box);
    const size = { width: 1280, height: 720 };
    const mark = toPicture(500, 300, whole);
    // As the SVG shows it.
    const [x, y, w, h] = viewBox(view, size).split(' ').map(Number) as [number, number, number, number];
    const p = toPixels(mark, size);
    expect(box.left + ((p.x - x) / w) * box.width).toBeCloseTo(500, 0);
    expect(box.top + ((p.y - y) / h) * box.height).toBeCloseTo(300, 0);
    expect(transform(view)).toContain('scale(2.5)');
  });

  it('four presses make four times', () => {
    let view = WHOLE;
    for (let i = 0; i < 4; i++) view = zoomed(view, ZOOM_STEP);
    expect(view.zoom).toBeCloseTo(4);
  });
});
