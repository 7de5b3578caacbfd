/**
 * The expert's whole story without a mouse: log in, take the call, answer about recording, freeze, step back, draw, send,
 * chat, end. Nothing but keys.
 *
 * Elsewhere: the same story with every person (`story.spec.ts`).
 */
import { join } from 'node:path';

import { type Locator, type Page, expect, test } from '@playwright/test';

import { numberOnDisplay } from './bench/archive.ts';
import { violations } from './checks.ts';
import { newPage } from './people.ts';
import { frameNumber, spec } from './pictures.ts';
import { folderFor, onStage } from './stage.ts';

const pictures = folderFor('keyboard');
/** The longest way with Tab on any page; a lost focus ends here and not never. */
const MAX_TABS = 120;

const stage = onStage();

test('an expert helps without touching a mouse', async () => {
  const { programs, browser } = stage;
  const glasses = programs.glasses[0]!;
  const page = await newPage(browser);
  const faults: string[] = [];
  page.on('pageerror', (e) => faults.push(e.message));
  const frozen = page.getByTestId('frozen-picture');
  const marks = page.getByTestId('board').locator('[data-mark]');

  await test.step('log in', async () => {
    await page.goto(programs.url);
    const { password } = programs.account('expert');
    await tabTo(page, page.getByLabel('User name'));
    await page.keyboard.type('expert');
    await tabTo(page, page.getByLabel('Password'));
    await page.keyboard.type(password);
    await page.keyboard.press('Enter');
    await expect(page).toHaveURL(/\/cases/);
  });

  await test.step('take the call and answer about recording', async () => {
    await tabTo(page, page.getByRole('button', { name: /Take call/ }).first());
    await page.keyboard.press('Enter');
    await tabTo(page, page.getByRole('button', { name: 'Take and record' }));
    await page.keyboard.press('Enter');
    await expect.poll(async () => (await glasses.state())['screen']).toBe('consent');
    await glasses.say('YES_RECORD');
    await expect.poll(() => frameNumber(page.getByTestId('live-video'))).not.toBeNull();
    await expect(page.getByTestId('recording-pill')).toHaveText(/Recording \d/);
    // Enough behind us to step back to.
    await page.waitForTimeout(3_000);
  });

  await test.step('freeze, and step back picture by picture and by a second', async () => {
    await page.keyboard.press('f');
    await expect(frozen).toBeVisible();
    const first = (await frameNumber(frozen))!;
    expect(first).not.toBeNull();
    await expect(page.getByText('about', { exact: true })).toHaveCount(0);
    const back = page.getByTestId('step-back');
    await page.keyboard.press('j');
    await expect(back).toHaveText(/[01]\.\d\d s before/);
    await expect(back).toHaveAttribute('aria-busy', 'false');
    const before = Number((await back.textContent())!.split(' ')[0]);
    // The clip's own number of the picture says the same as the times on the page.
    expect(behind(first, (await frameNumber(frozen))!)).toBe(Math.round(before * spec.fps));
    await page.keyboard.press(',');
    await expect(back).not.toHaveText(`${before.toFixed(2)} s before`);
    await expect(back).toHaveAttribute('aria-busy', 'false');
    const more = Number((await back.textContent())!.split(' ')[0]);
    expect(behind(first, (await frameNumber(frozen))!)).toBe(Math.round(more * spec.fps));
    await page.screenshot({ path: join(pictures, 'stepped-back.png') });
  });

  const instructed = await test.step('zoom in, draw with keys, undo and redo', async () => {
    await page.keyboard.press('+');
    await page.keyboard.press('+');
    await expect(page.getByTestId('zoom')).toHaveText('200 %');
    await page.keyboard.press('ArrowRight');
    for (const tool of ['c', 'i', 'n']) {
      await page.keyboard.press(tool);
      await page.keyboard.press('x');
      for (let i = 0; i < 3; i++) await page.keyboard.press('Shift+ArrowLeft');
    }
    await page.keyboard.press('t');
    await page.keyboard.press('x');
    await page.keyboard.type('Loosen this first');
    await page.keyboard.press('Enter');
    await expect(marks).toHaveCount(4);
    await page.keyboard.press('Control+z');
    await expect(marks).toHaveCount(3);
    await page.keyboard.press('Control+Shift+z');
    await expect(marks).toHaveCount(4);
    await page.screenshot({ path: join(pictures, 'drawn.png') });
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press('0');
    await expect(page.getByTestId('zoom')).toHaveText('100 %');
    return frameNumber(frozen);
  });

  await test.step('send; the glasses show that very picture', async () => {
    await page.keyboard.press('Enter');
    await expect(page.getByTestId('receipt-state').first()).toHaveText(/Shown|Seen/);
    await expect.poll(() => glasses.shown().some((p) => p.screen === 'instruction')).toBe(true);
    const shown = glasses.shown().find((p) => p.screen === 'instruction')!;
    expect(numberOnDisplay(join(glasses.folder, 'hud', String(shown['file'])))).toBe(instructed);
    await glasses.say('DONE');
    await expect(page.getByTestId('receipt-state').first()).toHaveText(/Done/);
  });

  await test.step('a key of one’s own', async () => {
    await page.keyboard.press('?');
    const dialog = page.getByRole('dialog');
    await tabTo(page, dialog.getByRole('button', { name: /^Freeze \/ back to live: F/ }));
    await page.keyboard.press('Enter');
    await page.keyboard.press('p');
    await expect(dialog.getByText(/P belongs to “Pen” already/)).toBeVisible();
    await tabTo(page, dialog.getByRole('button', { name: /Take it for/ }));
    await page.keyboard.press('Enter');
    await expect(dialog.getByText(/Freeze \/ back to live: now P/)).toBeVisible();
    expect(await violations(page)).toEqual([]);
    await page.screenshot({ path: join(pictures, 'keys.png') });
    await page.keyboard.press('Escape');
    await expect(dialog).toBeHidden();
    await page.keyboard.press('p');
    await expect(frozen).toBeVisible();
    await page.keyboard.press('Escape');
    await expect(frozen).toBeHidden();
  });

  await test.step('microphone: its level is measured; talk while the key is held', async () => {
    await tabTo(page, page.getByRole('button', { name: 'Microphone and loudspeaker' }));
    await page.keyboard.press('Enter');
    const level = page.getByTestId('mic-level');
    // Chromium's fake microphone beeps about once a second.
    await expect.poll(async () => Number(await level.getAttribute('aria-valuenow'))).toBeGreaterThan(20);
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press('Escape');
    await expect(level).toBeHidden();
    const said = glasses.heard().length;
    await page.locator('body').evaluate(() => (document.activeElement as HTMLElement | null)?.blur());
    await page.keyboard.down('Space');
    await expect.poll(() => glasses.heard().subarray(said).some((x) => Math.abs(x) > 0.01)).toBe(true);
    await page.keyboard.up('Space');
  });

  await test.step('the connection tells what was measured', async () => {
    await tabTo(page, page.getByRole('button', { name: /Connection of|Mara/ }).first());
    await page.keyboard.press('Enter');
    const more = page.getByRole('dialog').or(page.locator('.link-more'));
    await expect(more.getByText('1280×720').first()).toBeVisible();
    await expect(more.getByText('VP8').first()).toBeVisible();
    expect(await violations(page)).toEqual([]);
    await page.screenshot({ path: join(pictures, 'connection.png') });
    await page.keyboard.press('Escape');
  });

  await test.step('chat', async () => {
    await page.keyboard.press('/');
    await page.keyboard.type('Pump is off and locked out.');
    await page.keyboard.press('Enter');
    await expect(page.getByRole('log').getByText('Pump is off and locked out.')).toBeVisible();
  });

  await test.step('end with an outcome', async () => {
    await tabTo(page, page.getByRole('button', { name: 'End', exact: true }));
    await page.keyboard.press('Enter');
    const solved = page.getByRole('radio', { name: 'Solved' });
    await tabTo(page, page.getByRole('dialog').getByRole('radio').or(solved).first());
    if (!(await solved.isChecked())) await page.keyboard.press('Space');
    await expect(solved).toBeChecked();
    await tabTo(page, page.getByRole('button', { name: 'End session' }));
    await page.keyboard.press('Enter');
    await expect(page.getByText('The session has ended.')).toBeVisible();
    await expect.poll(async () => (await glasses.state())['session']).toBeNull();
  });

  expect(faults).toEqual([]);
});

/** Tab until this has the focus, and the focus can be seen. */
async function tabTo(page: Page, to: Locator): Promise<void> {
  await expect(to).toBeVisible();
  const there = () => to.evaluate((e) => e === document.activeElement);
  for (let i = 0; i < MAX_TABS && !(await there()); i++) await page.keyboard.press('Tab');
  expect(await there(), `Tab leads to ${to}`).toBe(true);
}

/** By how many pictures the second is earlier; the clip goes round. */
function behind(first: number, second: number): number {
  return (first - second + spec.frames) % spec.frames;
}
