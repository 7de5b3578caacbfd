// What the pen does with each tool: pure functions from points to a draft to a mark.
//
// A line is a stroke of two points and a circle an ellipse as wide as high, so every pair of glasses draws both.
// Owns: geometry limits of the contract, hit testing, moving. Never: touches the screen.

import type { Annotation, Colour, Mark, PictureCoord, StrokePoint } from '@bindings/payload';
import { clamp, FULL, lengthToPixels, toPixels, type Size } from './coords';
import type { BoardMark } from './scene';

export const TOOLS = ['select', 'laser', 'pen', 'line', 'arrow', 'rectangle', 'ellipse', 'circle', 'text', 'step', 'eraser'] as const;
export type Tool = (typeof TOOLS)[number];
export const COLOURS: readonly Colour[] = ['yellow', 'pink', 'blue', 'green', 'white'];
/** As the glasses draw them (annotation.rs); ink.test.ts holds them apart, for colour-blind people too. */
export const INK: Record<Colour, string> = {
  yellow: '#ffd60a',
  pink: '#ff4d94',
  blue: '#35d6ff',
  green: '#22b14c',
  white: '#ffffff',
};
/** Three widths relative to picture height: 3, 5 and 9 pixels at 720. */
export const WIDTHS = [273, 455, 819] as const;

/** Limits of the contract (annotation.rs). */
export const MAX_POINTS = 4_000;
export const MAX_MARKS = 500;
export const MAX_TEXT = 500;

export interface Style {
  colour: Colour;
  width: number;
}

/** Points of a stroke closer than this (of 65535) to the one before are left out: a quarter pixel at 1280. */
const CLOSE = 13;
/** A drag shorter than this is a click. */
const CLICK = 500;

/** A mark that starts here; null for tools that make none by dragging. */
export function begin(tool: Tool, at: StrokePoint, style: Style, step: number): Annotation | null {
  const point: PictureCoord = { x: at.x, y: at.y };
  switch (tool) {
    case 'pen':
      return { shape: 'stroke', points: [at], ...style };
    case 'line':
      return { shape: 'stroke', points: [even(point), even(point)], ...style };
    case 'arrow':
      return { shape: 'arrow', tail: point, tip: point, ...style };
    case 'rectangle':
      return { shape: 'rectangle', a: point, b: point, ...style };
    case 'ellipse':
    case 'circle':
      return { shape: 'ellipse', a: point, b: point, ...style };
    case 'step':
      return { shape: 'step', at: point, n: step, ...style };
    default:
      return null;
  }
}

export interface Pull {
  tool: Tool;
  /** Shift: squares and circles, lines and arrows in steps of 45 degrees. */
  regular?: boolean;
  size: Size;
}

/** The mark after the pen went to these points. */
export function extend(mark: Annotation, points: readonly StrokePoint[], pull: Pull): Annotation {
  const last = points.at(-1);
  if (!last) return mark;
  const end: PictureCoord = { x: last.x, y: last.y };
  switch (mark.shape) {
    case 'stroke': {
      if (pull.tool === 'line') {
        const from = mark.points[0]!;
        return { ...mark, points: [from, even(pull.regular ? straight(from, end, pull.size) : end)] };
      }
      const next = [...mark.points];
      for (const p of points) {
        const before = next.at(-1);
        const far = !before || Math.abs(before.x - p.x) + Math.abs(before.y - p.y) >= CLOSE;
        if (far && next.length < MAX_POINTS) next.push(p);
      }
      return { ...mark, points: next };
    }
    case 'arrow':
      return { ...mark, tip: pull.regular ? straight(mark.tail, end, pull.size) : end };
    case 'rectangle':
    case 'ellipse':
      return { ...mark, b: pull.regular || pull.tool === 'circle' ? square(mark.a, end, pull.size) : end };
    case 'step':
      return { ...mark, at: end };
    case 'text':
      return mark;
  }
}

/** The far corner nearest to `to` that makes the box as wide as high in pixels, within the picture. */
function square(a: PictureCoord, to: PictureCoord, size: Size): PictureCoord {
  const x = Math.sign(to.x - a.x) || 1;
  const y = Math.sign(to.y - a.y) || 1;
  const part = (room: number, pixels: number) => (room / FULL) * pixels;
  const room = Math.min(part(x > 0 ? FULL - a.x : a.x, size.width), part(y > 0 ? FULL - a.y : a.y, size.height));
  const side = Math.min(room, Math.max(part(Math.abs(to.x - a.x), size.width), part(Math.abs(to.y - a.y), size.height)));
  return { x: clamp(Math.round(a.x + (x * side * FULL) / size.width)), y: clamp(Math.round(a.y + (y * side * FULL) / size.height)) };
}

/** The point nearest to `to` that lies level, upright or at 45 degrees from `a`. */
function straight(a: PictureCoord, to: PictureCoord, size: Size): PictureCoord {
  const [p, q] = [toPixels(a, size), toPixels(to, size)];
  const turn = (Math.round(Math.atan2(q.y - p.y, q.x - p.x) / (Math.PI / 4)) * Math.PI) / 4;
  const [dx, dy] = [Math.cos(turn), Math.sin(turn)];
  let long = (q.x - p.x) * dx + (q.y - p.y) * dy;
  // As a whole within the picture, so that the angle stays.
  if (Math.abs(dx) > 1e-9) long = Math.min(long, (dx > 0 ? size.width - p.x : p.x) / Math.abs(dx));
  if (Math.abs(dy) > 1e-9) long = Math.min(long, (dy > 0 ? size.height - p.y : p.y) / Math.abs(dy));
  return { x: clamp(Math.round(((p.x + dx * long) / size.width) * FULL)), y: clamp(Math.round(((p.y + dy * long) / size.height) * FULL)) };
}

/** The stroke is a straight line. */
export function isLine(mark: Annotation): boolean {
  return mark.shape === 'stroke' && mark.points.length === 2 && distance(mark.points[0]!, mark.points[1]!) > 0;
}

function even(at: PictureCoord): StrokePoint {
  return { x: at.x, y: at.y, p: 128 };
}

/** The finished mark; null when it is too small to have been meant. */
export function finish(mark: Annotation, tool?: Tool): Annotation | null {
  if (tool === 'line' && mark.shape === 'stroke') return distance(mark.points[0]!, mark.points[1]!) < CLICK ? null : mark;
  switch (mark.shape) {
    case 'arrow':
      return distance(mark.tail, mark.tip) < CLICK ? null : mark;
    case 'rectangle':
    case 'ellipse':
      return distance(mark.a, mark.b) < CLICK ? null : mark;
    case 'stroke':
      // A dot is a mark: two points so that every reader draws it.
      return mark.points.length === 1 ? { ...mark, points: [mark.points[0]!, mark.points[0]!] } : mark;
    default:
      return mark;
  }
}

/** A mark of usual size around a point, for people without a pointing device. */
export function place(tool: Tool, at: PictureCoord, style: Style, step: number, size: Size): Annotation | null {
  const off = (dx: number, dy: number): PictureCoord => ({ x: clamp(at.x + dx), y: clamp(at.y + dy) });
  const p = (dx: number, dy: number): StrokePoint => ({ ...off(dx, dy), p: 128 });
  switch (tool) {
    case 'pen':
      return { shape: 'stroke', points: [p(-4000, 0), p(-1300, 1200), p(1300, -1200), p(4000, 0)], ...style };
    case 'line':
      return { shape: 'stroke', points: [p(-6000, 0), p(6000, 0)], ...style };
    case 'arrow':
      return { shape: 'arrow', tail: off(9000, 9000), tip: at, ...style };
    case 'rectangle':
    case 'ellipse':
      return { shape: tool, a: off(-5000, -6000), b: off(5000, 6000), ...style };
    case 'circle': {
      const wide = Math.round((6000 * size.height) / size.width);
      return { shape: 'ellipse', a: off(-wide, -6000), b: off(wide, 6000), ...style };
    }
    case 'step':
      return { shape: 'step', at, n: step, ...style };
    default:
      return null;
  }
}

/** The mark moved by this much; it stops as a whole at the picture's edge. */
export function moved(mark: Annotation, dx: number, dy: number): Annotation {
  const points = pointsOf(mark);
  const x = stop(dx, points.map((p) => p.x));
  const y = stop(dy, points.map((p) => p.y));
  const shift = <P extends PictureCoord>(p: P): P => ({ ...p, x: p.x + x, y: p.y + y });
  switch (mark.shape) {
    case 'stroke':
      return { ...mark, points: mark.points.map(shift) };
    case 'arrow':
      return { ...mark, tail: shift(mark.tail), tip: shift(mark.tip) };
    case 'rectangle':
    case 'ellipse':
      return { ...mark, a: shift(mark.a), b: shift(mark.b) };
    default:
      return { ...mark, at: shift(mark.at) };
  }
}

/** The topmost mark near this point, within `reach` pixels of the picture. */
export function hit(marks: readonly BoardMark[], at: PictureCoord, size: Size, reach: number): BoardMark | null {
  return marks.findLast((m) => distanceTo(m.annotation, at, size) <= reach) ?? null;
}

/** Text size of a label or step marker, pixels of the picture. */
export function textPixels(mark: Annotation, height: number): number {
  return Math.max(lengthToPixels(mark.width, height) * 4.4, height * 0.026);
}

/** The part of the picture a mark covers, 0 to 1 from the upper left. */
export function covers(mark: Annotation, size: Size): { left: number; top: number; right: number; bottom: number } {
  const points = pointsOf(mark).map((p) => toPixels(p, { width: 1, height: 1 }));
  const high = mark.shape === 'text' || mark.shape === 'step' ? textPixels(mark, size.height) : 0;
  const wide = mark.shape === 'text' ? mark.text.length * high * 0.6 + high : high;
  return {
    left: Math.min(...points.map((p) => p.x)) - (mark.shape === 'step' ? high / size.width : 0),
    top: Math.min(...points.map((p) => p.y)) - (mark.shape === 'step' ? high / size.height : 0),
    right: Math.max(...points.map((p) => p.x)) + wide / size.width,
    bottom: Math.max(...points.map((p) => p.y)) + (high * (mark.shape === 'text' ? 1.75 : 1)) / size.height,
  };
}

/** Corners of the picture as classes of the small picture (ui/PictureFrame), the usual one first: right?, lower? */
const CORNERS = [['', true, true], ['top', true, false], ['left', false, true], ['left top', false, false]] as const;

/** Where a small picture of a quarter of the width covers no mark; the usual corner where none is free. */
export function freeCorner(marks: readonly Annotation[], size: Size): string {
  const taken = marks.map((m) => covers(m, size));
  const free = CORNERS.find(
    ([, right, lower]) => !taken.some((m) => (right ? m.right > 0.73 : m.left < 0.27) && (lower ? m.bottom > 0.71 : m.top < 0.29)),
  );
  return free?.[0] ?? '';
}

export function pointsOf(mark: Mark): PictureCoord[] {
  switch (mark.shape) {
    case 'stroke':
      return mark.points;
    case 'arrow':
      return [mark.tail, mark.tip];
    case 'rectangle':
    case 'ellipse':
      return [mark.a, mark.b];
    default:
      return [mark.at];
  }
}

function distanceTo(mark: Annotation, at: PictureCoord, size: Size): number {
  const p = toPixels(at, size);
  const px = (c: PictureCoord) => toPixels(c, size);
  switch (mark.shape) {
    case 'stroke': {
      const points = mark.points.map(px);
      if (points.length === 1) return Math.hypot(points[0]!.x - p.x, points[0]!.y - p.y);
      return Math.min(...points.slice(1).map((b, i) => toSegment(p, points[i]!, b)));
    }
    case 'arrow':
      return toSegment(p, px(mark.tail), px(mark.tip));
    case 'rectangle': {
      const [a, b] = [px(mark.a), px(mark.b)];
      const corners = [a, { x: b.x, y: a.y }, b, { x: a.x, y: b.y }];
      return Math.min(...corners.map((c, i) => toSegment(p, c, corners[(i + 1) % 4]!)));
    }
    case 'ellipse': {
      const [a, b] = [px(mark.a), px(mark.b)];
      const rx = Math.abs(b.x - a.x) / 2 || 1;
      const ry = Math.abs(b.y - a.y) / 2 || 1;
      const k = Math.hypot((p.x - (a.x + b.x) / 2) / rx, (p.y - (a.y + b.y) / 2) / ry);
      return Math.abs(k - 1) * Math.min(rx, ry);
    }
    case 'text': {
      const t = px(mark.at);
      const high = textPixels(mark, size.height) * 1.6;
      const wide = mark.text.length * textPixels(mark, size.height) * 0.6;
      const dx = Math.max(t.x - p.x, 0, p.x - t.x - wide);
      const dy = Math.max(t.y - p.y, 0, p.y - t.y - high);
      return Math.hypot(dx, dy);
    }
    case 'step': {
      const t = px(mark.at);
      return Math.max(0, Math.hypot(t.x - p.x, t.y - p.y) - textPixels(mark, size.height) * 0.9);
    }
  }
}

interface Point {
  x: number;
  y: number;
}

function toSegment(p: Point, a: Point, b: Point): number {
  const dx = b.x - a.x;
  const dy = b.y - a.y;
  const long = dx * dx + dy * dy;
  const t = long === 0 ? 0 : Math.min(1, Math.max(0, ((p.x - a.x) * dx + (p.y - a.y) * dy) / long));
  return Math.hypot(p.x - a.x - t * dx, p.y - a.y - t * dy);
}

function distance(a: PictureCoord, b: PictureCoord): number {
  return Math.hypot(a.x - b.x, a.y - b.y);
}

function stop(by: number, values: number[]): number {
  const low = Math.min(...values);
  const high = Math.max(...values);
  return Math.round(Math.min(65535 - high, Math.max(-low, by)));
}
