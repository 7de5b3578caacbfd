/**
 * What people do in a browser, by the buttons and keys that they have; the story, the gallery and the bench share it.
 *
 * Owns: the browser's settings, logging in, the acts of expert and manager. Never: judges what came of an act.
 * Elsewhere: the programs (`programs.ts`), what is on a picture (`pictures.ts`).
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

import { type Browser, type Page, chromium, expect } from '@playwright/test';

import { type Programs, root } from './programs.ts';

/** Parts of the picture's width and height. */
export type Point = readonly [x: number, y: number];

/** Where a page is, and as whom one may log in there. */
export type Place = Pick<Programs, 'url' | 'account'>;

/** `more`: switches of one browser only; `hosts`: those that it finds. */
export function openBrowser(more: readonly string[] = [], hosts: readonly string[] = ['127.0.0.1']): Promise<Browser> {
  return chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      '--no-sandbox',
      '--disable-quic',
      '--use-fake-ui-for-media-stream',
      '--use-fake-device-for-media-stream',
      '--autoplay-policy=no-user-gesture-required',
      // Without any network but loopback, media has to use loopback too.
      ...(process.env['LOTSE_OFFLINE'] ? ['--allow-loopback-in-peer-connection'] : []),
      // Chromium's own look-ups of its maker's hosts are not the pages' doing.
      `--host-resolver-rules=MAP * ~NOTFOUND , ${hosts.map((host) => `EXCLUDE ${host}`).join(' , ')}`,
      ...more,
    ],
  });
}

/** An English page in a profile of somebody's own. */
export async function newPage(browser: Browser, options: Parameters<Browser['newContext']>[0] = {}): Promise<Page> {
  const context = await browser.newContext({
    locale: 'en-GB',
    viewport: { width: 1440, height: 900 },
    permissions: ['microphone'],
    acceptDownloads: true,
    ...options,
  });
  return context.newPage();
}

/** Logs in as one of the demo accounts. */
export async function logIn(page: Page, programs: Place, user: string): Promise<void> {
  await page.goto(programs.url);
  await page.getByLabel('User name').fill(user);
  await page.getByLabel('Password').fill(programs.account(user).password);
  await page.getByRole('button', { name: 'Log in' }).click();
  await expect(page).toHaveURL(/\/cases/);
}

/** A browser whose camera sees the workshop and whose microphone hears it, as a phone's would. */
export function openPhone(folder: string): Promise<Browser> {
  const [picture, sound] = [join(folder, 'camera.mjpeg'), join(folder, 'microphone.wav')];
  const clip = join(root, 'tests/footage/workshop.mp4');
  // Fine enough that the frame number in the picture survives being encoded twice.
  execFileSync('ffmpeg', ['-v', 'error', '-y', '-i', clip, '-an', '-c:v', 'mjpeg', '-q:v', '3', '-pix_fmt', 'yuvj420p', picture]);
  execFileSync('ffmpeg', ['-v', 'error', '-y', '-i', clip, '-vn', '-ac', '1', '-ar', '48000', sound]);
  return openBrowser([`--use-file-for-fake-video-capture=${picture}`, `--use-file-for-fake-audio-capture=${sound}`]);
}

/** A page of a phone, held upright. */
export function newPhonePage(browser: Browser, options: Parameters<Browser['newContext']>[0] = {}): Promise<Page> {
  return newPage(browser, { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, reducedMotion: 'reduce', permissions: ['camera', 'microphone'], ...options });
}

/** A technician logs in on the phone and calls. */
export async function callFromField(page: Page, programs: Programs, title: string, asset = 'p-204'): Promise<void> {
  if (!page.url().endsWith('/field')) {
    await page.goto(`${programs.url}/field`);
    const user = page.getByLabel('User name');
    await expect(user.or(page.getByLabel('What is wrong?'))).toBeVisible();
    if (await user.isVisible()) {
      await user.fill('technician');
      await page.getByLabel('Password').fill(programs.account('technician').password);
      await page.getByRole('button', { name: 'Log in' }).click();
    }
  }
  await page.getByLabel('What is wrong?').fill(title);
  await page.getByLabel('Which asset?').selectOption(asset);
  await page.getByRole('button', { name: 'CALL AN EXPERT' }).click();
  await expect(page.getByText('You are calling')).toBeVisible();
}

/** Takes a waiting call with an answer about recording. */
export async function takeCall(page: Page, title: string, answer = 'Take and record'): Promise<void> {
  const call = page.getByRole('listitem').filter({ hasText: title });
  await call.getByRole('button', { name: /Take call/ }).first().click();
  await page.getByRole('button', { name: answer }).click();
}

/** Draws with the current tool. */
export async function draw(page: Page, points: readonly Point[]): Promise<void> {
  const box = (await page.getByTestId('board').boundingBox())!;
  const to = ([x, y]: Point) => [box.x + box.width * x, box.y + box.height * y] as const;
  await page.mouse.move(...to(points[0]!));
  await page.mouse.down();
  for (const point of points.slice(1)) await page.mouse.move(...to(point), { steps: 8 });
  await page.mouse.up();
}

export async function endSession(page: Page, outcome: string): Promise<void> {
  await page.getByRole('button', { name: 'End', exact: true }).click();
  await page.getByRole('radio', { name: outcome }).click();
  await page.getByRole('button', { name: 'End session' }).click();
  await expect(page.getByText('The session has ended.')).toBeVisible();
}

/** From a case, or on a replay that was loaded anew. */
export async function replayWithReason(page: Page, reason: string): Promise<void> {
  const open = page.getByRole('link', { name: 'Replay' }).or(page.getByRole('button', { name: 'Replay' })).first();
  const field = page.getByLabel('Reason');
  await expect(open.or(field).first()).toBeVisible();
  if (!(await field.isVisible())) await open.click();
  await field.fill(reason);
  await page.keyboard.press('Enter');
}

/** The case bundle, in a file of this folder. */
export async function download(page: Page, reason: string, folder: string): Promise<string> {
  await page.getByRole('button', { name: 'Download case bundle' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Reason').fill(reason);
  // Half an hour of recording is put together first.
  const begun = page.waitForEvent('download', { timeout: 300_000 });
  await dialog.getByRole('button', { name: 'Download' }).click();
  const to = join(folder, 'case.tar');
  await (await begun).saveAs(to);
  return to;
}
