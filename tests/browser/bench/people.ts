/**
 * What people do only in a measured session. Elsewhere: what they do everywhere (`../people.ts`), the watchers (`watch.ts`).
 */
import type { Browser, Locator, Page } from '@playwright/test';

import { type Point, logIn, newPage, replayWithReason } from '../people.ts';
import type { Programs } from '../programs.ts';

/** A page of somebody's own, logged in. `prepare` sees it before its first document. */
export async function person(browser: Browser, programs: Programs, user: string, prepare: (page: Page) => Promise<void>): Promise<Page> {
  const page = await newPage(browser);
  page.on('pageerror', (e) => console.log(`${user}: ${e.message}`));
  await prepare(page);
  await logIn(page, programs, user);
  return page;
}

/** The way into the call: a first answer, or the one given before. */
export function answer(page: Page): Locator {
  return page.getByRole('dialog').getByRole('button', { name: /Take and record|Back to the call/ });
}

/** Pen down; the picture freezes. */
export async function penDown(page: Page, [x, y]: Point): Promise<{ lineTo(to: Point): Promise<void> }> {
  const box = (await page.getByTestId('board').boundingBox())!;
  const place = ([x, y]: Point) => [box.x + box.width * x, box.y + box.height * y] as const;
  await page.mouse.move(...place([x, y]));
  await page.mouse.down();
  return {
    async lineTo(to) {
      await page.mouse.move(...place(to), { steps: 8 });
      await page.mouse.up();
    },
  };
}

/** The replay of a case of this title, from the list. */
export async function replay(page: Page, title: RegExp, reason: string): Promise<void> {
  await page.getByRole('link', { name: title }).first().click();
  await replayWithReason(page, reason);
}
