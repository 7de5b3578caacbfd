/** Seeks by clicks on the time line of a replay: how long until the right recorded picture is painted. `rtp` is null where nothing was recorded. */
import type { Page } from '@playwright/test';

import { type Measured, codeIn } from './watch.ts';

export type Seek = { part: number; took_ms: number | null; time: number; rtp: number | null; number: number | null };

/** Nothing after this long is nothing at all. */
const GIVEN_UP_MS = 20_000;

/** A function that seeks to a part of the line's length. */
export async function seeker(page: Page): Promise<(part: number) => Promise<Seek>> {
  const box = (await page.getByTestId('timeline').boundingBox())!;
  return async (part) => {
    await page.evaluate((limit) => {
      const { lotse, bench } = window as unknown as Measured;
      const video = document.querySelector<HTMLVideoElement>('[data-testid=replay-video]')!;
      let clicked: number | null = null;
      const found = new Promise<unknown>((done) => {
        const nothing = () => done({ took_ms: null, time: lotse.replay()?.time ?? -1, rtp: lotse.replay()?.frame?.rtp ?? null, luma: [] });
        const sought = (e: PointerEvent) => {
          clicked = e.timeStamp;
          // Once the page has put its playhead there.
          setTimeout(() => lotse.replay()?.frame ?? nothing(), 0);
        };
        addEventListener('pointerdown', sought, { capture: true, once: true });
        const look: VideoFrameRequestCallback = (_now, m) => {
          const at = lotse.replay();
          // The container rounds to whole milliseconds.
          if (clicked !== null && at?.frame && m.mediaTime > at.frame_start - 0.002 && m.mediaTime < at.next_frame_start - 0.001)
            done({ took_ms: m.expectedDisplayTime - clicked, time: at.time, rtp: at.frame.rtp, luma: bench.luma(video) });
          else video.requestVideoFrameCallback(look);
        };
        video.requestVideoFrameCallback(look);
        setTimeout(nothing, limit);
      });
      Object.assign(window, { found });
    }, GIVEN_UP_MS);
    await page.mouse.click(box.x + box.width * part, box.y + 12);
    const { luma, ...seek } = await page.evaluate(() => (window as unknown as { found: Promise<Omit<Seek, 'part' | 'number'> & { luma: number[] }> }).found);
    return { part, ...seek, number: luma.length > 0 ? codeIn(luma) : null };
  };
}
