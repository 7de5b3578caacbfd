/**
 * A technician without glasses: a phone's browser at /field has the whole product.
 *
 * Real programs, real Chromium on both sides, the workshop clip as the phone's camera and microphone. Each step asserts what its
 * person would see or what lies on the disk.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { type Browser, type Page, expect, test } from '@playwright/test';

import { callFromField, download, draw, endSession, logIn, newPage, newPhonePage, openBrowser, openPhone, replayWithReason, takeCall } from './people.ts';
import { frameNumber } from './pictures.ts';
import { Programs, binaries, root } from './programs.ts';
import { hears, mediaBytes } from './signs.ts';

const pictures = join(root, 'tests/out/field');

let programs: Programs;
let desk: Browser;
let phone: Browser;
/** What a page's console called an error. */
const faults: string[] = [];

test.beforeAll(async () => {
  mkdirSync(pictures, { recursive: true });
  programs = await Programs.start([]);
  desk = await openBrowser();
  phone = await openPhone(programs.folder);
});

test.afterAll(async () => {
  await desk?.close();
  await phone?.close();
  await programs?.stop();
});

test('a phone calls, is helped, and it can be proven', async () => {
  const field = watched('technician', await newPhonePage(phone));
  const expert = watched('expert', await newPage(desk));

  await test.step('the technician calls, and sees the own picture while waiting', async () => {
    await callFromField(field, programs, 'Shaft seal leaks');
    await expect.poll(() => frameNumber(field.getByTestId('own-video'))).not.toBeNull();
    await look(field, 'calling');
  });

  await test.step('before any answer nothing flows', async () => {
    await logIn(expert, programs, 'expert');
    await takeCall(expert, 'Shaft seal leaks');
    await expect(field.getByRole('heading', { name: 'Record this call?' })).toBeVisible();
    await expect(field.getByText('Anton Weber')).toBeVisible();
    await expect(expert.getByText(/has not answered the question about recording/)).toBeVisible();
    expect(await videoWidth(expert)).toBe(0);
    expect(mediaBytes(programs)).toBe(0);
    await look(field, 'consent');
  });

  await test.step('YES, RECORD: picture, sound both ways, recording', async () => {
    await field.getByRole('button', { name: 'YES, RECORD' }).click();
    await expect.poll(() => videoWidth(expert)).toBe(1280);
    const first = await eventually(() => frameNumber(expert.getByTestId('live-video')));
    await expect.poll(() => frameNumber(expert.getByTestId('live-video'))).not.toBe(first);
    await expect(expert.getByTestId('recording-pill')).toHaveText(/Recording \d/);
    await expect(field.getByTestId('recording-pill')).toHaveText(/Recording \d/);
    await expect(field.getByTestId('watchers')).toHaveText(/Anton Weber is watching/);
    await expect(field.getByTestId('link-word')).toHaveText(/Good/);
    await expect.poll(() => mediaBytes(programs)).toBeGreaterThan(0);
    await expect.poll(() => hears(expert), 'the expert hears the technician').toBe(true);
    await expert.locator('body').click({ position: { x: 5, y: 5 } });
    await expert.keyboard.down('Space');
    await expect.poll(() => hears(field), 'the technician hears the expert').toBe(true);
    await expert.keyboard.up('Space');
    await look(field, 'live');
  });

  expect(faults, 'errors in the consoles').toEqual([]);
});

function watched(who: string, page: Page): Page {
  page.on('console', (m) => {
    // Before login the page asks who it is, and Chromium calls the answer "nobody yet" an error; see story.spec.ts.
    if (m.type() === 'error' && !/\b401\b|VideoFrame was garbage collected/.test(m.text())) faults.push(`${who}: ${m.text()}`);
  });
  page.on('pageerror', (e) => faults.push(`${who}: ${e.message}`));
  return page;
}

function videoWidth(page: Page): Promise<number> {
  return page.evaluate(() => document.querySelector<HTMLVideoElement>('[data-testid=live-video]')?.videoWidth ?? 0);
}

async function eventually<T>(ask: () => Promise<T | null>): Promise<T> {
  let found: T | null = null;
  await expect.poll(async () => (found = await ask())).not.toBeNull();
  return found!;
}

/** Keeps a picture for people to look at. */
async function look(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: join(pictures, `${name}.png`) });
}
