/**
 * Two experts draw at once, each on a picture of their own: each sees the other's marks while they are drawn, with name, and
 * nobody changes what is not theirs.
 *
 * Elsewhere: that any order of messages gives the same picture (`web-expert/src/board/sheets.test.ts`).
 */
import { join } from 'node:path';

import { type Page, expect, test } from '@playwright/test';

import { violations } from './checks.ts';
import { numberOnDisplay } from './bench/archive.ts';
import { draw, logIn, newPage, takeCall } from './people.ts';
import { frameNumber } from './pictures.ts';
import { folderFor, onStage } from './stage.ts';

const pictures = folderFor('together');

const stage = onStage();

test('two experts mark one machine at the same time', async () => {
  const { programs, browser } = stage;
  const glasses = programs.glasses[0]!;
  const faults: string[] = [];
  const person = async (user: string): Promise<Page> => {
    const page = await newPage(browser);
    page.on('pageerror', (e) => faults.push(`${user}: ${e.message}`));
    await logIn(page, programs, user);
    return page;
  };
  const live = (page: Page) => frameNumber(page.getByTestId('live-video'));
  const marks = (page: Page) => page.getByTestId('board').locator('[data-mark]');

  const anton = await person('expert');
  await takeCall(anton, 'Mechanical seal leaks');
  await expect.poll(async () => (await glasses.state())['screen']).toBe('consent');
  await glasses.say('YES_RECORD');
  await expect.poll(() => live(anton)).not.toBeNull();
  const second = await person('expert2');
  await second.goto(anton.url());
  await second.getByRole('button', { name: 'Take and record' }).click();
  await expect.poll(() => live(second)).not.toBeNull();
  const name = programs.account('expert2').name;

  await test.step('a colleague draws; I see it while I watch live, on the very picture they froze', async () => {
    await second.keyboard.press('2');
    await second.keyboard.press('c');
    await draw(second, [[0.4, 0.3], [0.6, 0.6]]);
    const shoulder = anton.getByTestId('shoulder');
    await expect(shoulder).toContainText(`${name} is drawing`);
    await expect(shoulder).toBeEnabled();
    await expect(shoulder.locator('[data-mark]')).toHaveCount(1);
    const theirs = await frameNumber(second.getByTestId('frozen-picture'));
    expect(theirs).not.toBeNull();
    expect(await frameNumber(shoulder.locator('canvas'))).toBe(theirs);
    // My own picture is mine: it goes on.
    await expect(anton.getByTestId('frozen-picture')).toBeHidden();
    await anton.screenshot({ path: join(pictures, 'shoulder.png') });
    expect(await violations(anton)).toEqual([]);
  });

  await test.step('both draw at once, on pictures of their own', async () => {
    await anton.keyboard.press('r');
    await draw(anton, [[0.2, 0.2], [0.3, 0.3]]);
    await expect(second.getByTestId('shoulder').locator('[data-mark]')).toHaveCount(1);
    await expect(marks(anton)).toHaveCount(1);
    await expect(marks(second)).toHaveCount(1);
    await anton.keyboard.press('Escape');
    await expect(second.getByTestId('shoulder')).toHaveCount(0);
  });

  await test.step('I join their picture; undo takes back mine, never theirs', async () => {
    await anton.getByTestId('shoulder').click();
    await expect(marks(anton)).toHaveCount(1);
    expect(await frameNumber(anton.getByTestId('frozen-picture'))).toBe(await frameNumber(second.getByTestId('frozen-picture')));
    await anton.keyboard.press('n');
    await draw(anton, [[0.7, 0.3]]);
    await expect(marks(anton)).toHaveCount(2);
    await expect(marks(second)).toHaveCount(2);
    await anton.keyboard.press('Control+z');
    await expect(marks(anton)).toHaveCount(1);
    await anton.keyboard.press('Control+z');
    await anton.keyboard.press('Delete');
    await expect(marks(anton)).toHaveCount(1);
    await expect(marks(second)).toHaveCount(1);
    // The eraser passes over what is not mine.
    await anton.keyboard.press('e');
    await draw(anton, [[0.4, 0.45], [0.6, 0.45]]);
    await expect(marks(anton)).toHaveCount(1);
    await anton.keyboard.press('Control+Shift+z');
    await expect(marks(anton)).toHaveCount(2);
    await expect(marks(second)).toHaveCount(2);
  });

  await test.step('the wheel and two fingers bring the picture nearer, and draw nothing', async () => {
    const zoom = anton.getByTestId('zoom');
    const box = (await anton.getByTestId('board').boundingBox())!;
    const middle = { x: box.x + box.width / 2, y: box.y + box.height / 2 };
    await anton.mouse.move(middle.x, middle.y);
    for (let notch = 0; notch < 3; notch++) await anton.mouse.wheel(0, -140);
    await expect(zoom).toHaveText('200 %');
    await anton.mouse.wheel(0, 420);
    await expect(zoom).toHaveText('100 %');
    const hand = await anton.context().newCDPSession(anton);
    const fingers = (apart: number) => [-1, 1].map((side, id) => ({ x: middle.x + (side * apart) / 2, y: middle.y, id }));
    await hand.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: fingers(100).slice(0, 1) });
    await hand.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: fingers(100) });
    for (let apart = 110; apart <= 200; apart += 10) await hand.send('Input.dispatchTouchEvent', { type: 'touchMove', touchPoints: fingers(apart) });
    await hand.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
    await expect(zoom).toHaveText('200 %');
    await expect(marks(anton)).toHaveCount(2);
    await expect(marks(second)).toHaveCount(2);
    await anton.screenshot({ path: join(pictures, 'nearer.png') });
    await anton.keyboard.press('0');
    await expect(zoom).toHaveText('100 %');
  });

  await test.step('how a colleague’s line is stands beside their name', async () => {
    const pill = anton.getByRole('listitem').filter({ hasText: name }).getByTitle(`Connection of ${name}`);
    await expect(pill).toHaveText(/^\s*(Good|Weak|Bad)\s*$/);
    await pill.click();
    const more = anton.getByRole('dialog', { name: `Connection of ${name}` });
    await expect(more).toContainText(/\d+ ms/);
    await anton.screenshot({ path: join(pictures, 'colleagues-line.png') });
    expect(await violations(anton)).toEqual([]);
    await anton.keyboard.press('Escape');
    await expect(more).toBeHidden();
  });

  await test.step('layers: theirs can be hidden, mine stay', async () => {
    await anton.keyboard.press('h');
    await expect(marks(anton)).toHaveCount(1);
    await anton.getByRole('button', { name: 'Layers' }).click();
    const box = anton.getByRole('checkbox', { name: new RegExp(name) });
    await expect(box).not.toBeChecked();
    expect(await violations(anton)).toEqual([]);
    await box.click();
    await expect(marks(anton)).toHaveCount(2);
    await anton.keyboard.press('Escape');
  });

  await test.step('each sends their own; it stands in the other’s list with a name', async () => {
    const frozen = await frameNumber(second.getByTestId('frozen-picture'));
    await second.keyboard.press('Enter');
    await expect(anton.getByRole('list', { name: 'Instructions sent' }).getByText(name)).toBeVisible();
    // Sent marks stay on this picture, as a layer of theirs.
    await expect(marks(anton)).toHaveCount(2);
    await expect.poll(() => glasses.shown().some((p) => p.screen === 'instruction')).toBe(true);
    const shown = () => glasses.shown().findLast((p) => p.screen === 'instruction')!;
    expect(numberOnDisplay(join(glasses.folder, 'hud', String(shown()['file'])))).toBe(frozen);
    await anton.getByRole('button', { name: /Send to glasses/ }).click();
    await expect(second.getByRole('list', { name: 'Instructions sent' }).getByRole('listitem')).toHaveCount(2);
    await expect(anton.getByTestId('frozen-picture')).toBeHidden();
  });

  expect(faults).toEqual([]);
});
