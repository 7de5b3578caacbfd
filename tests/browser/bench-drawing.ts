/**
 * What drawing costs the page: a long stroke over a frozen picture with 200 marks, while the live video plays beside it.
 * `npx playwright test --config bench.config.ts bench-drawing`; `make bench` runs it too.
 *
 * Owns: the strokes and the watch in the page. Writes tests/out/bench/drawing.json. Never: asserts a figure.
 * Elsewhere: the page of figures (`tests/bench/drawing.mjs`).
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';

import { type Page, expect, test } from '@playwright/test';

import { spread } from './bench/figures.ts';
import { type Point, logIn, newPage, openBrowser, takeCall } from './people.ts';
import { frameNumber } from './pictures.ts';
import { Programs, root } from './programs.ts';

const MARKS = 200;
/** Moves of one measured stroke; two of them. */
const MOVES = 400;
const STROKES = 2;
const out = join(root, 'tests/out/bench');

test('drawing', async () => {
  mkdirSync(out, { recursive: true });
  const load = loadavg()[0]!;
  const programs = await Programs.start(['helmet-1']);
  const browser = await openBrowser();
  try {
    const glasses = programs.glasses[0]!;
    const page = await newPage(browser);
    await logIn(page, programs, 'expert');
    await takeCall(page, 'Mechanical seal leaks');
    await expect.poll(async () => (await glasses.state())['screen']).toBe('consent');
    await glasses.say('YES_RECORD');
    const live = page.getByTestId('live-video');
    await expect.poll(() => frameNumber(live)).not.toBeNull();
    await page.evaluate(watch);

    await page.keyboard.press('f');
    await expect(page.getByTestId('frozen-picture')).toBeVisible();
    await page.keyboard.press('v');
    const still = await strokes(page, false);
    await page.keyboard.press('p');
    const box = (await page.getByTestId('board').boundingBox())!;
    for (let i = 0; i < MARKS; i++) {
      // Left of the small live picture.
      const x = 0.03 + 0.62 * ((i % 20) / 20);
      const y = 0.08 + 0.8 * (Math.floor(i / 20) / 10);
      await page.mouse.move(...on(box, [x, y]));
      await page.mouse.down();
      for (let k = 1; k <= 5; k++) await page.mouse.move(...on(box, [x + 0.025 * Math.sin(k), y + 0.012 * k]));
      await page.mouse.up();
    }
    await expect(page.getByTestId('board').locator('[data-mark]')).toHaveCount(MARKS);
    const drawing = await strokes(page, true);
    const frames = await page.evaluate(() => {
      const { droppedVideoFrames, totalVideoFrames } = document.querySelector<HTMLVideoElement>('[data-testid=live-video]')!.getVideoPlaybackQuality();
      return { dropped: droppedVideoFrames, decoded: totalVideoFrames };
    });
    const at = await frameNumber(live);
    await expect.poll(() => frameNumber(live), 'the video still plays').not.toBe(at);
    const result = {
      at: new Date().toISOString().slice(0, 16).replace('T', ' '),
      load: [load, loadavg()[0]],
      marks: MARKS,
      still: spread(still),
      drawing: spread(drawing),
      ...frames,
    };
    console.log(JSON.stringify(result));
    writeFileSync(join(out, 'drawing.json'), JSON.stringify(result, null, 1));
  } finally {
    await browser.close();
    await programs.stop();
  }
});

/** The same ways with the pen down or with nothing pressed; what each move took, ms. */
async function strokes(page: Page, penDown: boolean): Promise<number[]> {
  const box = (await page.getByTestId('board').boundingBox())!;
  const to = (p: Point) => on(box, p);
  await page.evaluate(() => (window as unknown as { moves: number[] }).moves.splice(0));
  for (let s = 0; s < STROKES; s++) {
    await page.mouse.move(...to([0.05, 0.2 + 0.2 * s]));
    if (penDown) await page.mouse.down();
    for (let i = 1; i <= MOVES; i++) await page.mouse.move(...to([0.05 + (0.65 * i) / MOVES, 0.2 + 0.2 * s + 0.06 * Math.sin(i / 9)]));
    if (penDown) await page.mouse.up();
  }
  return page.evaluate(() => (window as unknown as { moves: number[] }).moves.splice(0));
}

type Box = { x: number; y: number; width: number; height: number };
const on = (box: Box, [x, y]: Point) => [box.x + box.width * x, box.y + box.height * y] as const;

/**
 * Runs in the page. Chromium hands a move out at the start of a frame; handlers, the flush of the page's state, animation
 * callbacks, style, layout and paint follow before the next message. What lies between is what the move took, at most.
 */
function watch(): void {
  const moves: number[] = [];
  Object.assign(window, { moves });
  addEventListener(
    'pointermove',
    () => {
      const began = performance.now();
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => moves.push(performance.now() - began);
      port2.postMessage(0);
    },
    { capture: true },
  );
}
