/**
 * Reads the workshop clip's frame number out of pictures, in a page or in a PNG of the glasses' display.
 *
 * Elsewhere: what the code looks like (`tests/footage/barcode.json`) and how its cells are read (`barcode.mjs`).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { type Locator, type Page, expect } from '@playwright/test';

import { root } from './programs.ts';

type Spec = { fps: number; frames: number; picture: { width: number; height: number }; claps: { frame: number }[]; flash: { frames: number } };
type Reading = { frame: number; flash: boolean };
type Reader = (spec: Spec, width: number, luma: (x: number, y: number) => number) => Reading | null;

export const spec = JSON.parse(readFileSync(join(root, 'tests/footage/barcode.json'), 'utf8')) as Spec;
const { read } = (await import(join(root, 'tests/footage/barcode.mjs'))) as { read: Reader };

/** The frame number that a video, canvas or image element shows right now; null where no valid code is seen. */
export async function frameNumber(element: Locator): Promise<number | null> {
  const { width, height, luma } = await element.evaluate((e): { width: number; height: number; luma: number[] } => {
    const source = e as HTMLVideoElement & HTMLImageElement & HTMLCanvasElement;
    const width = source.videoWidth || source.naturalWidth || source.width;
    const height = source.videoHeight || source.naturalHeight || source.height;
    // No picture yet.
    if (!width || !height) return { width: 0, height: 0, luma: [] };
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext('2d')!;
    context.drawImage(source, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    const luma = new Array<number>(width * height);
    for (let i = 0; i < luma.length; i++)
      luma[i] = Math.round(0.2126 * data[4 * i]! + 0.7152 * data[4 * i + 1]! + 0.0722 * data[4 * i + 2]!);
    // Only the part with the code crosses over to the test.
    const from = Math.floor(height - width * 0.0675);
    return { width, height, luma: luma.slice(from * width) };
  });
  if (width === 0) return null;
  // An upright picture has the clip's whole picture at its foot.
  const above = height - Math.round((width * spec.picture.height) / spec.picture.width);
  const from = Math.floor(height - width * 0.0675) - above;
  return read(spec, width, (x, y) => luma[(y - from) * width + x] ?? 0)?.frame ?? null;
}

/** Asks until there is an answer. */
export async function eventually<T>(ask: () => Promise<T | null>): Promise<T> {
  let found: T | null = null;
  await expect.poll(async () => (found = await ask())).not.toBeNull();
  return found!;
}

/** Of a rectangle from 30 to 60 % of the width both edges are yellow where they must be on a technician's page, and nothing beside them is. */
export async function expectMark(field: Page): Promise<void> {
  const png = (await field.getByTestId('marked').screenshot()).toString('base64');
  const yellow = await field.evaluate(async (png) => {
    const image = new Image();
    image.src = `data:image/png;base64,${png}`;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext('2d')!;
    context.drawImage(image, 0, 0);
    // Along the middle row: which parts of the width are the ink's yellow (#ffd60a); brass is duller.
    const row = context.getImageData(0, Math.round(image.height / 2), image.width, 1).data;
    return Array.from({ length: image.width }, (_, x) => x).filter((x) => row[4 * x]! > 240 && Math.abs(row[4 * x + 1]! - 214) < 14 && row[4 * x + 2]! < 50).map((x) => x / image.width);
  }, png);
  expect(yellow.length).toBeGreaterThan(0);
  for (const edge of [0.3, 0.6]) expect(yellow.some((x) => Math.abs(x - edge) < 0.012), `yellow at ${edge}, found ${yellow}`).toBe(true);
  expect(yellow.filter((x) => Math.abs(x - 0.3) > 0.02 && Math.abs(x - 0.6) > 0.02)).toEqual([]);
}
