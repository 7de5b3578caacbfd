/**
 * Pictures of the live page's tools: zoomed, stepped back, layers, a colleague at work, devices, connection, keys.
 *
 * Owns: the walk to these states. Elsewhere: how a state is taken (`shots.ts`), every other page (`gallery.ts`).
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from '@playwright/test';

import { draw, openBrowser, takeCall } from './people.ts';
import { Programs } from './programs.ts';
import { LONG, found, out, pageOf, take } from './shots.ts';

test('gallery of the live page', async () => {
  test.setTimeout(1_200_000);
  mkdirSync(out, { recursive: true });
  const programs = await Programs.start(['helmet-1']);
  const browser = await openBrowser();
  try {
    const glasses = programs.glasses[0]!;
    const expert = await pageOf(browser, programs, 'expert');
    await takeCall(expert, 'Mechanical seal leaks');
    await expect.poll(async () => (await glasses.state())['screen'], LONG).toBe('consent');
    await glasses.say('YES_RECORD');
    await expect(expert.getByTestId('recording-pill')).toHaveText(/Recording \d/, LONG);
    const second = await pageOf(browser, programs, 'expert2');
    await second.goto(expert.url());
    await second.getByRole('button', { name: 'Take and record' }).click();
    await expect(second.getByTestId('board')).toBeVisible(LONG);
    await second.waitForTimeout(3_000);

    await second.keyboard.press('2');
    await second.keyboard.press('c');
    await draw(second, [[0.4, 0.3], [0.6, 0.6]]);
    await second.keyboard.press('a');
    await draw(second, [[0.75, 0.8], [0.6, 0.62]]);
    await expect(expert.getByTestId('shoulder')).toBeEnabled(LONG);
    await take(expert, 'live-colleague');
    await expert.getByTestId('shoulder').click();
    await expect(expert.getByTestId('board').locator('[data-mark]')).toHaveCount(2);
    await expert.keyboard.press('i');
    await draw(expert, [[0.2, 0.2], [0.42, 0.34]]);
    await expert.keyboard.press('n');
    await draw(expert, [[0.18, 0.18]]);
    await expert.getByRole('button', { name: 'Layers' }).click();
    await take(expert, 'live-layers');
    await expert.keyboard.press('Escape');
    await expert.keyboard.press('+');
    await expert.keyboard.press('+');
    await take(expert, 'live-zoomed');
    await expert.keyboard.press('0');
    await expert.getByRole('button', { name: /Discard/ }).click();
    await expert.keyboard.press('f');
    await expert.keyboard.press('j');
    await expert.keyboard.press('3');
    await expert.keyboard.press('r');
    await draw(expert, [[0.35, 0.3], [0.6, 0.7]]);
    await take(expert, 'live-stepped-back');
    await expert.keyboard.press('Escape');
    await expert.keyboard.press('Escape');

    await second.keyboard.press('Enter');
    await expect(expert.getByTestId('receipt-state').first()).toHaveText(/Shown|Seen/, LONG);
    await take(expert, 'live-colleagues-instruction');
    await expert.getByRole('button', { name: 'Microphone and loudspeaker' }).click();
    await expect(expert.getByTestId('mic-level')).toBeVisible();
    await take(expert, 'live-devices');
    await expert.keyboard.press('Escape');
    await expert.locator('.link-pill').first().click();
    await expect(expert.getByText('VP8').first()).toBeVisible(LONG);
    await take(expert, 'live-connection');
    await expert.keyboard.press('Escape');
    await expert.locator('.link-pill').nth(1).click();
    await expect(expert.locator('.link-more').getByText(/DTLS 1/)).toBeVisible(LONG);
    await take(expert, 'live-connection-mine', undefined, ['desk']);
    await expert.keyboard.press('Escape');
    await expert.keyboard.press('?');
    await expert.getByRole('button', { name: /^Pen: P/ }).click();
    await expert.keyboard.press('m');
    await take(expert, 'keys-taken');
  } finally {
    writeFileSync(join(out, 'found-live.txt'), `${[...new Set(found)].join('\n')}\n`);
    await browser.close();
    await programs.stop();
  }
  expect([...new Set(found)].filter((f) => f.includes(' axe ')), 'axe').toEqual([]);
});
