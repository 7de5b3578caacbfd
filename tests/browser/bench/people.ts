/**
 * What people do in a measured session, by the same buttons and keys as in the story.
 *
 * Owns: the browser and who is logged in. Never: measures. Elsewhere: the watchers (`watch.ts`).
 */
import { join } from 'node:path';

import { type Browser, type Locator, type Page, chromium, expect } from '@playwright/test';

import type { Programs } from '../programs.ts';

export function openBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      '--no-sandbox',
      '--disable-quic',
      '--use-fake-ui-for-media-stream',
      '--use-fake-device-for-media-stream',
      '--autoplay-policy=no-user-gesture-required',
      // Chromium's own look-ups of its maker's hosts are not the pages' doing.
      '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1',
    ],
  });
}

/** A page of somebody's own, logged in. `prepare` sees it before its first document. */
export async function person(browser: Browser, programs: Programs, user: string, prepare: (page: Page) => Promise<void>): Promise<Page> {
  const context = await browser.newContext({
    locale: 'en-GB',
    viewport: { width: 1440, height: 900 },
    permissions: ['microphone'],
    acceptDownloads: true,
  });
  const page = await context.newPage();
  page.on('pageerror', (e) => console.log(`${user}: ${e.message}`));
  await prepare(page);
  await page.goto(programs.url);
  await page.getByLabel('User name').fill(user);
  await page.getByLabel('Password').fill(programs.account(user).password);
  await page.getByRole('button', { name: 'Log in' }).click();
  await expect(page).toHaveURL(/\/cases/);
  return page;
}

export async function take(page: Page, title: string): Promise<void> {
  const call = page.getByRole('listitem').filter({ hasText: title });
  await call.getByRole('button', { name: /Take call/ }).first().click();
  await answer(page).click();
}

/** The way into the call: a first answer, or the one given before. */
export function answer(page: Page): Locator {
  return page.getByRole('dialog').getByRole('button', { name: /Take and record|Back to the call/ });
}

/** Pen down; the picture freezes. Points are parts of the picture's width and height. */
export async function penDown(page: Page, [x, y]: [number, number]): Promise<{ lineTo(to: [number, number]): Promise<void> }> {
  const box = (await page.getByTestId('board').boundingBox())!;
  const place = ([x, y]: [number, number]) => [box.x + box.width * x, box.y + box.height * y] as const;
  await page.mouse.move(...place([x, y]));
  await page.mouse.down();
  return {
    async lineTo(to) {
      await page.mouse.move(...place(to), { steps: 8 });
      await page.mouse.up();
    },
  };
}

export async function end(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'End', exact: true }).click();
  await page.getByRole('radio', { name: 'Solved' }).click();
  await page.getByRole('button', { name: 'End session' }).click();
  await expect(page.getByText('The session has ended.')).toBeVisible();
}

export async function replay(page: Page, title: RegExp): Promise<void> {
  await page.getByRole('link', { name: title }).first().click();
  const field = page.getByLabel('Reason');
  const open = page.getByRole('link', { name: 'Replay' }).or(page.getByRole('button', { name: 'Replay' })).first();
  await expect(open.or(field).first()).toBeVisible();
  if (!(await field.isVisible())) await open.click();
  await field.fill('Figures');
  await page.keyboard.press('Enter');
}

export async function download(page: Page, folder: string): Promise<string> {
  await page.getByRole('button', { name: 'Download case bundle' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Reason').fill('Figures');
  const [file] = await Promise.all([page.waitForEvent('download', { timeout: 300_000 }), dialog.getByRole('button', { name: 'Download' }).click()]);
  const to = join(folder, 'case.tar');
  await file.saveAs(to);
  return to;
}
