// Where a point of the screen lies on the picture: integers 0..65535 of the encoded picture, before letterbox and zoom.
//
// Owns: the one conversion between window pixels, picture pixels and PictureCoord. Never: rounds twice.

import type { PictureCoord } from '@bindings/payload';

/** The far edge of a picture. */
export const FULL = 65535;

export interface Size {
  width: number;
  height: number;
}

export interface Rect extends Size {
  left: number;
  top: number;
}

/** The rectangle a picture covers inside a box that shows it whole and centred. */
export function contain(box: Rect, picture: Size): Rect {
  if (picture.width <= 0 || picture.height <= 0) return box;
  const scale = Math.min(box.width / picture.width, box.height / picture.height);
  const width = picture.width * scale;
  const height = picture.height * scale;
  return { left: box.left + (box.width - width) / 2, top: box.top + (box.height - height) / 2, width, height };
}

/** A window point on the shown picture; outside points land on the edge. */
export function toPicture(x: number, y: number, shown: Rect): PictureCoord {
  return { x: part(x - shown.left, shown.width), y: part(y - shown.top, shown.height) };
}

/** To pixels of a picture of this size. */
export function toPixels(at: PictureCoord, size: Size): { x: number; y: number } {
  return { x: (at.x / FULL) * size.width, y: (at.y / FULL) * size.height };
}

/** A length relative to the picture's height, to pixels. */
export function lengthToPixels(length: number, height: number): number {
  return (length / FULL) * height;
}

/** Pixels of the picture's height to a length. */
export function pixelsToLength(pixels: number, height: number): number {
  return clamp(Math.round((pixels / height) * FULL));
}

export function clamp(v: number): number {
  return Number.isFinite(v) ? Math.min(FULL, Math.max(0, v)) : 0;
}

function part(v: number, full: number): number {
  return clamp(Math.round((v / full) * FULL));
}
