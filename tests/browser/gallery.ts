/**
 * Takes a picture of every page and state with the real programs, and of every screen of the glasses: `npm run gallery`.
 *
 * Owns: the walk. Elsewhere: how a state is taken (`shots.ts`), the tools of the live page (`gallery-live.ts`).
 * Never: judges beauty. Somebody looks at the pictures. Elsewhere: what can be measured (`checks.ts`), what must work
 * (`story.spec.ts`).
 * `LOTSE_GALLERY='live replay' npm run gallery` takes only states whose names begin so; the walk is the same.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { type Browser, type Page, expect, test } from '@playwright/test';

import { type Point, draw, openBrowser } from './people.ts';
import { frameNumber, spec } from './pictures.ts';
import { Programs, binaries, root } from './programs.ts';
import { LONG, found, out, pageOf, take } from './shots.ts';

async function drawWith(page: Page, key: string, points: Point[]): Promise<void> {
  await page.keyboard.press(key);
  await draw(page, points);
}

/** An ellipse by hand, as parts of the picture. */
const ring = (x: number, y: number, rx: number, ry: number): Point[] =>
  Array.from({ length: 25 }, (_, i) => [x + rx * Math.cos((i / 24) * 6.4 - 1.6), y + ry * Math.sin((i / 24) * 6.4 - 1.6)]);

async function walk(programs: Programs, browser: Browser): Promise<void> {
  const [pump, bike] = programs.glasses as [(typeof programs.glasses)[0], (typeof programs.glasses)[0]];
  const nobody = await pageOf(browser, programs, '');
  await expect(nobody.getByLabel('User name')).toBeVisible();
  await take(nobody, 'login');
  await nobody.getByLabel('User name').fill('expert');
  await nobody.getByLabel('Password').fill('not the one');
  await nobody.getByRole('button', { name: 'Log in' }).click();
  await expect(nobody.getByRole('alert')).not.toBeEmpty();
  await take(nobody, 'login-wrong');

  const expert = await pageOf(browser, programs, 'expert');
  await expect(expert.getByRole('button', { name: /Take call/ })).toHaveCount(2, LONG);
  await take(expert, 'cases-waiting');
  await expert.goto(`${programs.url}/no/such/page`);
  await take(expert, 'not-found');
  await expert.goto(`${programs.url}/cases/00000000-0000-7000-8000-000000000000`);
  await expect(expert.getByRole('heading', { level: 1 })).toBeVisible();
  await take(expert, 'case-refused');
  await expert.goto(`${programs.url}/cases`);
  const call = expert.getByRole('listitem').filter({ hasText: 'Mechanical seal leaks' });
  await call.getByRole('button', { name: /Take call/ }).first().click();
  await expect(expert.getByRole('dialog')).toBeVisible();
  await take(expert, 'consent');
  const id = new URL(expert.url()).pathname.split('/')[2]!;
  const wear = await pageOf(browser, programs, '');
  const shown = (screen: string) => expect.poll(async () => (await pump.state())['screen'], LONG).toBe(screen);
  await expert.getByRole('button', { name: 'Take and record' }).click();
  await shown('consent');
  await wear.goto(pump.wear);
  await expect(wear.getByRole('button', { name: /YES RECORD/ })).toBeVisible();
  await take(wear, 'wear-consent', 'en');
  await expect(expert.getByText(/has not answered/)).toBeVisible();
  await take(expert, 'live-waiting');
  await pump.say('YES_RECORD');
  await expect(expert.getByTestId('recording-pill')).toHaveText(/Recording \d/, LONG);
  await expect.poll(() => expert.locator('video').evaluate((v: HTMLVideoElement) => v.videoWidth), LONG).toBe(1280);
  await take(expert, 'live');
  await take(wear, 'wear-live', 'en');
  // The second pair speaks German: its call still waits.
  (bike.program as unknown as { env: Record<string, string> }).env['LOTSE_HUD_LANGUAGE'] = 'de';
  await bike.program.stop();
  await bike.program.start();
  await wear.goto(bike.wear);
  await expect(wear.getByRole('button', { name: /ANRUF ABBRECHEN/ })).toBeVisible(LONG);
  await take(wear, 'wear-calling', 'de');
  await wear.goto(pump.wear);

  // A second expert, whose browser gives no microphone, points.
  const second = await pageOf(browser, programs, 'expert2');
  await second.addInitScript(() => (navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', 'NotAllowedError'))));
  await second.goto(`${programs.url}/cases/${id}`);
  await take(second, 'case-not-member');
  await second.goto(`${programs.url}/cases/${id}/live`);
  await second.getByRole('button', { name: 'Take and record' }).click();
  await expect.poll(() => second.locator('video').evaluate((v: HTMLVideoElement) => v.videoWidth), LONG).toBe(1280);
  await take(second, 'live-no-microphone');
  await second.getByRole('button', { name: /Laser pointer/ }).click();
  const board = (await second.getByTestId('board').boundingBox())!;
  let step = 0;
  const pointing = setInterval(() => void second.mouse.move(board.x + board.width * (0.42 + 0.02 * Math.sin(step++)), board.y + board.height * 0.4).catch(() => {}), 300);
  await expect(expert.getByTestId('pointer')).toBeVisible();
  await take(expert, 'live-pointed');
  clearInterval(pointing);
  await second.context().close();

  // The clip shows the seal near the middle from its 7th second on.
  const words = expert.getByPlaceholder('Instruction in words');
  const mark = async () => {
    const live = expert.getByTestId('live-video');
    await expect.poll(async () => Math.abs(((await frameNumber(live)) ?? 0) / spec.fps - 8.5) < 1.8, { ...LONG, intervals: [50] }).toBe(true);
    await expert.keyboard.press('f');
    await drawWith(expert, 'p', ring(0.46, 0.41, 0.055, 0.16));
    await drawWith(expert, 'a', [[0.29, 0.62], [0.405, 0.5]]);
    await drawWith(expert, 'n', [[0.55, 0.26]]);
    await drawWith(expert, 't', [[0.03, 0.64]]);
    await expert.keyboard.type('Loosen this first');
    await expert.keyboard.press('Enter');
    await words.fill('Loosen the seal, then show me the ring');
  };
  await expert.evaluate(() => (document.documentElement.dataset['theme'] = 'dark'));
  await mark();
  await expert.screenshot({ path: join(out, 'story-expert.png') });
  await words.press('Enter');
  await shown('instruction');
  await expect(expert.getByTestId('receipt-state').first()).toHaveText(/Seen/, LONG);
  writeFileSync(join(out, 'story-hud.png'), pump.picture());
  await take(wear, 'wear-instruction', 'en');
  await pump.say('DONE');
  await expect(expert.getByTestId('receipt-state').first()).toHaveText(/Done/);
  await take(expert, 'live-receipt');
  await mark();
  await take(expert, 'live-marked');
  await expert.getByRole('button', { name: /Discard/ }).click();
  await expert.getByPlaceholder('Message to everyone').fill('Pump is off and locked out.');
  await expert.getByPlaceholder('Message to everyone').press('Enter');
  const file = { name: 'Dichtungswechsel-Kreiselpumpe-P-204.pdf', mimeType: 'application/pdf', buffer: Buffer.alloc(180_000, 'a') };
  await expert.locator('input[type=file]').setInputFiles(file);
  await expect(expert.getByText(file.name).first()).toBeVisible();
  await take(expert, 'live-chat');
  await expert.keyboard.press('Escape');
  await expert.getByRole('button', { name: 'Keys' }).click();
  await take(expert, 'keys');
  await expert.getByRole('dialog').getByRole('button', { name: 'Close' }).click();
  await programs.archivist.stop();
  await expect(expert.getByTestId('recording-pill')).toHaveText(/Not recording/, LONG);
  await take(expert, 'live-no-archivist');
  const list = await expert.context().newPage();
  await list.goto(`${programs.url}/cases`);
  await expect(list.getByText(/No archivist/)).toBeVisible(LONG);
  await take(list, 'cases-no-archivist');
  await list.close();
  await programs.archivist.start();
  await expect(expert.getByTestId('recording-pill')).toHaveText(/Recording \d/, LONG);
  await pump.program.stop('SIGKILL');
  await take(wear, 'wear-gone', 'en');
  await expect(expert.getByText(/cannot be reached since|nicht erreichbar/)).toBeVisible(LONG);
  await take(expert, 'live-glasses-gone');
  await pump.program.start();
  await expect(expert.getByText(/cannot be reached since/)).toBeHidden(LONG);
  await expert.getByRole('button', { name: 'End', exact: true }).click();
  await expert.getByRole('radio', { name: 'Solved' }).click();
  await take(expert, 'end');
  await expert.getByRole('button', { name: 'End session' }).click();
  await expect(expert.getByText('The session has ended.')).toBeVisible();
  await take(expert, 'live-ended');

  const manager = await pageOf(browser, programs, 'manager');
  await take(manager, 'cases-manager');
  await manager.goto(`${programs.url}/cases/${id}/replay`);
  await take(manager, 'reason');
  await manager.getByLabel('Reason').fill('Warranty check');
  await manager.keyboard.press('Enter');
  await expect(manager.getByTestId('chain-pill')).toHaveText(/Verified/, LONG);
  await expect.poll(() => manager.getByTestId('replay-video').evaluate((v: HTMLVideoElement) => v.videoWidth), LONG).toBe(1280);
  await manager.waitForTimeout(4000);
  await take(manager, 'replay');
  await manager.getByRole('list').getByText(/Instruction by/).first().click();
  await expect(manager.locator('.stage [data-mark]').first()).toBeVisible();
  await take(manager, 'replay-instruction');
  await manager.getByRole('tab', { name: /Looked at/ }).click();
  await take(manager, 'replay-looks');
  await manager.getByRole('button', { name: 'Download case bundle' }).click();
  await take(manager, 'export');
  await expert.goto(`${programs.url}/cases/${id}`);
  await expect(expert.getByText('Warranty check').first()).toBeVisible(LONG);
  await take(expert, 'case');
  for (const glasses of [bike, pump]) await glasses.program.stop();
  // A call that nobody waits in any more leaves the queue by itself.
  await expert.goto(`${programs.url}/cases`);
  await expect(expert.getByText(/Nobody is waiting/)).toBeVisible(LONG).catch(() => found.push('the queue did not become empty'));
  await take(expert, 'cases-nobody');
}

test('gallery', async () => {
  test.setTimeout(1_800_000);
  mkdirSync(out, { recursive: true });
  const still = join(out, 'still.png');
  execFileSync('ffmpeg', ['-v', 'error', '-y', '-ss', '10', '-i', join(root, 'tests/footage/workshop.mp4'), '-frames:v', '1', still]);
  execFileSync(join(binaries, 'lotse-glass'), ['hud-gallery', join(out, 'hud'), '--picture', still]);
  const programs = await Programs.start();
  const browser = await openBrowser();
  try {
    await walk(programs, browser);
  } finally {
    writeFileSync(join(out, 'found.txt'), `${[...new Set(found)].join('\n')}\n`);
    await browser.close();
    await programs.stop();
  }
  expect([...new Set(found)].filter((f) => f.includes(' axe ')), 'axe').toEqual([]);
});
