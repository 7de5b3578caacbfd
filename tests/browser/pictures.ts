/**
 * Reads the workshop clip's frame number out of pictures, in a page or in a PNG of the glasses' display.
 *
 * Elsewhere: what the code looks like (`tests/footage/barcode.json`) and how its cells are read (`barcode.mjs`).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Locator } from '@playwright/test';

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
    const from = Math.floor(height * 0.88);
    return { width, height, luma: luma.slice(from * width) };
  });
  if (width === 0) return null;
  const from = Math.floor(height * 0.88);
  return read(spec, width, (x, y) => luma[(y - from) * width + x] ?? 0)?.frame ?? null;
}
