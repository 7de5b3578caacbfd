// Which part of the picture is seen: zoom and place. Marks never know of it; they stay in PictureCoord.
//
// Owns: the arithmetic of zooming around a point and of stopping at the picture's edges. Never: touches the screen.

import type { Rect, Size } from './coords';

/** The part of the picture that fills the stage: its left upper corner as parts of the picture. */
export interface View {
  /** 1: the whole picture. */
  zoom: number;
  x: number;
  y: number;
}

export const WHOLE: View = { zoom: 1, x: 0, y: 0 };
/** At 8 a picture of 1280 shows 160 pixels: more would only show its blocks. */
export const MAX_ZOOM = 8;
/** One press of a button or key; four of them make 4 times. */
export const ZOOM_STEP = Math.SQRT2;
/** An arrow key moves by this part of what is seen. */
export const PAN_STEP = 0.15;

/** Zooms by a factor; the picture under `at` (parts of the stage) stays under it. */
export function zoomed(view: View, factor: number, at = { x: 0.5, y: 0.5 }): View {
  const zoom = Math.min(MAX_ZOOM, Math.max(1, view.zoom * factor));
  return within({ zoom, x: view.x + at.x / view.zoom - at.x / zoom, y: view.y + at.y / view.zoom - at.y / zoom });
}

/** Moves the view by parts of what is seen; positive: to the right and down. */
export function panned(view: View, dx: number, dy: number): View {
  return within({ ...view, x: view.x + dx / view.zoom, y: view.y + dy / view.zoom });
}

/** Where the whole picture would lie when the stage is `box`. */
export function spread(view: View, box: Rect): Rect {
  const width = box.width * view.zoom;
  const height = box.height * view.zoom;
  return { left: box.left - view.x * width, top: box.top - view.y * height, width, height };
}

/** For an SVG whose units are the picture's pixels. */
export function viewBox(view: View, size: Size): string {
  return `${view.x * size.width} ${view.y * size.height} ${size.width / view.zoom} ${size.height / view.zoom}`;
}

/** For an element that fills the stage, with its upper left corner as origin. */
export function transform(view: View): string {
  if (view.zoom === 1) return 'none';
  return `translate(${-view.x * view.zoom * 100}%, ${-view.y * view.zoom * 100}%) scale(${view.zoom})`;
}

function within(view: View): View {
  const far = 1 - 1 / view.zoom;
  const stop = (v: number) => Math.min(far, Math.max(0, v));
  return { zoom: view.zoom, x: stop(view.x), y: stop(view.y) };
}
