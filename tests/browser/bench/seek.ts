/** Seeks by clicks on the time line of a replay: how long until the right recorded picture is painted. `rtp` is null where nothing was recorded. */
import type { Page } from '@playwright/test';

import { type Measured, codeIn } from './watch.ts';

export type Seek = {
  part: number;
  took_ms: number | null;
  /** Told by the browser, or read from the pixels. */
  by: 'frame' | 'pixels';
  time: number;
  rtp: number | null;
  number: number | null;
  /** Where the picture stood when none came. */
  instead?: unknown;
};

type Found = Omit<Seek, 'part' | 'number'> & { luma: number[] };

/** Nothing after this long is nothing at all. */
const GIVEN_UP_MS = 10_000;
/** Pixels that have changed and stay so this long are the picture that was sought. */
const SETTLED_MS = 500;

/** A function that seeks to a part of the line's length. */
export async function seeker(page: Page): Promise<(part: number) => Promise<Seek>> {
  const box = (await page.getByTestId('timeline').boundingBox())!;
  return async (part) => {
    await page.evaluate(arm, { limit: GIVEN_UP_MS, settled: SETTLED_MS });
    await page.mouse.click(box.x + box.width * part, box.y + 12);
    const { luma, ...seek } = await page.evaluate(() => (window as unknown as { found: Promise<Found> }).found);
    return { part, ...seek, number: luma.length > 0 ? codeIn(luma) : null };
  };
}

/** Runs in the page: waits for the next click and for the picture that belongs to it. */
function arm({ limit, settled }: { limit: number; settled: number }): void {
  const { lotse, bench } = window as unknown as Measured;
  const video = document.querySelector<HTMLVideoElement>('[data-testid=replay-video]')!;
  let clicked: number | null = null;
  /** What the element showed when the browser told of a picture on the way, and when. */
  let before: { luma: number[]; at: number } | null = null;
  const found = new Promise<Found>((done) => {
    const place = () => ({ time: lotse.replay()?.time ?? -1, rtp: lotse.replay()?.frame?.rtp ?? null });
    let over = false;
    const ranges = () => Array.from({ length: video.buffered.length }, (_, i) => [video.buffered.start(i), video.buffered.end(i)]);
    /** What the element did meanwhile, should the picture not come. */
    const steps: unknown[] = [];
    for (const name of ['seeking', 'seeked', 'waiting', 'progress'])
      video.addEventListener(name, () => over || steps.push([name, performance.now() - (clicked ?? 0), video.currentTime, video.readyState, ranges()]));
    /** The pixels have the last word. */
    const pixels = () => {
      over = true;
      const instead = { ...lotse.replay(), ranges: ranges(), ready: video.readyState, steps };
      // The bar code says whether it is the right one.
      done({ took_ms: before && clicked !== null ? before.at - clicked : null, by: 'pixels', ...place(), luma: before?.luma ?? [], instead });
    };
    const sought = (e: PointerEvent) => {
      clicked = e.timeStamp;
      // Once the page has put its playhead there.
      setTimeout(() => lotse.replay()?.frame ?? pixels(), 0);
      setTimeout(pixels, limit);
    };
    addEventListener('pointerdown', sought, { capture: true, once: true });

    // A picture that comes while the browser still tells of the one before is not told at all; then the pixels tell.
    let timer = 0;
    const read = () => {
      const luma = bench.luma(video);
      if (luma.some((v, i) => v !== before!.luma[i])) {
        before = { luma, at: performance.now() };
        clearTimeout(timer);
        timer = window.setTimeout(pixels, settled);
      }
      if (!over) requestAnimationFrame(read);
    };
    const look: VideoFrameRequestCallback = (_now, m) => {
      const at = lotse.replay();
      // The container rounds to whole milliseconds.
      if (clicked !== null && at?.frame && m.mediaTime > at.frame_start - 0.002 && m.mediaTime < at.next_frame_start - 0.001) {
        over = true;
        done({ took_ms: m.expectedDisplayTime - clicked, by: 'frame', ...place(), luma: bench.luma(video) });
        return;
      }
      if (clicked !== null && !before) {
        before = { luma: bench.luma(video), at: performance.now() };
        requestAnimationFrame(read);
      }
      video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
  });
  Object.assign(window, { found });
}
