// What the pen does with each tool: pure functions from points to a draft to a mark.
//
// Owns: geometry limits of the contract, hit testing, moving. Never: touches the screen.

import type { Annotation, Colour, Mark, PictureCoord, StrokePoint } from '@bindings/payload';
import { clamp, lengthToPixels, toPixels, type Size } from './coords';
import type { BoardMark } from './scene';

export type Tool = 'select' | 'laser' | 'pen' | 'arrow' | 'rectangle' | 'ellipse' | 'text' | 'step' | 'eraser';
export const TOOLS: readonly Tool[] = ['select', 'laser', 'pen', 'arrow', 'rectangle', 'ellipse', 'text', 'step', 'eraser'];
export const COLOURS: readonly Colour[] = ['yellow', 'pink', 'blue', 'green', 'white'];
export const INK: Record<Colour, string> = {
  yellow: '#ffd60a',
  pink: '#ff4d94',
  blue: '#35d6ff',
  green: '#5be584',
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
    case 'arrow':
      return { shape: 'arrow', tail: point, tip: point, ...style };
    case 'rectangle':
    case 'ellipse':
      return { shape: tool, a: point, b: point, ...style };
    case 'step':
      return { shape: 'step', at: point, n: step, ...style };
    default:
      return null;
  }
}

/** The mark after the pen went to these points. */
export function extend(mark: Annotation, points: readonly StrokePoint[]): Annotation {
  const last = points.at(-1);
  if (!last) return mark;
  const end: PictureCoord = { x: last.x, y: last.y };
  switch (mark.shape) {
    case 'stroke': {
      const next = [...mark.points];
      for (const p of points) {
        const before = next.at(-1);
        const far = !before || Math.abs(before.x - p.x) + Math.abs(before.y - p.y) >= CLOSE;
        if (far && next.length < MAX_POINTS) next.push(p);
      }
      return { ...mark, points: next };
    }
    case 'arrow':
      return { ...mark, tip: end };
    case 'rectangle':
    case 'ellipse':
      return { ...mark, b: end };
    case 'step':
      return { ...mark, at: end };
    case 'text':
      return mark;
  }
}

/** The finished mark; null when it is too small to have been meant. */
export function finish(mark: Annotation): Annotation | null {
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
export function place(tool: Tool, at: PictureCoord, style: Style, step: number): Annotation | null {
  const off = (dx: number, dy: number): PictureCoord => ({ x: clamp(at.x + dx), y: clamp(at.y + dy) });
  const p = (dx: number, dy: number): StrokePoint => ({ ...off(dx, dy), p: 128 });
  switch (tool) {
    case 'pen':
      return { shape: 'stroke', points: [p(-4000, 0), p(-1300, 1200), p(1300, -1200), p(4000, 0)], ...style };
    case 'arrow':
      return { shape: 'arrow', tail: off(9000, 9000), tip: at, ...style };
    case 'rectangle':
    case 'ellipse':
      return { shape: tool, a: off(-5000, -6000), b: off(5000, 6000), ...style };
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
