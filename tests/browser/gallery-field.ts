/**
 * Pictures of a technician's page on a phone, upright and across, and on a desk: every screen and state it has.
 *
 * Owns: the walk to these states. Elsewhere: how a state is taken (`shots.ts`), the experts' pages (`gallery.ts`, `gallery-live.ts`).
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { type Browser, type Page, expect, test } from '@playwright/test';

import { violations } from './checks.ts';
import { callFromField, draw, endSession, logIn, newPhonePage, openBrowser, openPhone, takeCall } from './people.ts';
import { Programs } from './programs.ts';
import { LONG, found, out, pageOf, take } from './shots.ts';

/** Held upright and on a desk. */
const shot = (page: Page, name: string) => take(page, `field-${name}`, undefined, ['phone', 'desk']);
/** Across as well, where the page has another layout for it. */
const across = (page: Page, name: string) => take(page, `field-${name}`, undefined, ['phone', 'wide', 'desk']);

let programs: Programs;
let desk: Browser;
let phone: Browser;

test.beforeEach(async () => {
  mkdirSync(out, { recursive: true });
  programs = await Programs.start([]);
  desk = await openBrowser();
  phone = await openPhone(programs.folder);
});

test.afterEach(async ({}, info) => {
  writeFileSync(join(out, `found-${info.title.replaceAll(' ', '-')}.txt`), `${[...new Set(found)].join('\n')}\n`);
  await desk?.close();
  await phone?.close();
  await programs?.stop();
});

test('phone until the call', async () => {
  test.setTimeout(900_000);
  const field = watched(await newPhonePage(phone));
  await field.goto(`${programs.url}/field`);
  await expect(field.getByLabel('User name')).toBeVisible();
  await shot(field, 'login');
  await field.getByLabel('User name').fill('technician');
  await field.getByLabel('Password').fill(programs.account('technician').password);
  await field.getByRole('button', { name: 'Log in' }).click();
  await expect(field.getByText(/No case yet/)).toBeVisible(LONG);
  await across(field, 'home-empty');
  await programs.archivist.stop();
  await expect(field.getByText(/No archivist is connected/)).toBeVisible(LONG);
  await shot(field, 'home-no-archivist');

  await callFromField(field, programs, 'Mechanical seal leaks');
  await expect(field.getByTestId('link-word')).toHaveText(/Good/, LONG);
  await across(field, 'calling');
  const expert = await pageOf(desk, programs, 'expert');
  await takeCall(expert, 'Mechanical seal leaks');
  await expect(field.getByText('no archivist is connected')).toBeVisible(LONG);
  await shot(field, 'consent-no-archivist');
  await programs.archivist.start();
  await expect(field.getByText('for your company, as archivist')).toBeVisible(LONG);
  await across(field, 'consent');
  await field.getByRole('button', { name: /NO THANK YOU/ }).click();
  await expect(field.getByText(/No picture or sound from you/)).toBeVisible(LONG);
  await across(field, 'refused');
  await endSession(expert, 'Still open');
  await field.getByRole('link', { name: 'To the start' }).last().click();

  // Without a camera, or without leave to use it, one calls all the same.
  for (const [error, words, name] of [
    ['NotAllowedError', /does not release the camera/, 'camera-refused'],
    ['NotFoundError', /No camera was found/, 'camera-none'],
  ] as const) {
    const blind = watched(await field.context().newPage());
    await blind.setViewportSize({ width: 390, height: 844 });
    await blind.addInitScript((e) => (navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', e))), error);
    await callFromField(blind, programs, 'Noise in the bearing', '');
    await expect(blind.getByText(words)).toBeVisible(LONG);
    await shot(blind, `calling-${name}`);
    await expert.goto(`${programs.url}/cases`);
    await takeCall(expert, 'Noise in the bearing');
    await blind.getByRole('button', { name: 'TALK WITHOUT RECORDING' }).click();
    await expect(blind.getByText(words)).toBeVisible(LONG);
    await shot(blind, `live-${name}`);
    await endSession(expert, 'Still open');
    await blind.close();
  }
  await field.reload();
  await expect(field.getByRole('link', { name: /Mechanical seal leaks/ })).toBeVisible(LONG);
  await across(field, 'home');

  await field.goto(`${programs.url}/field/00000000-0000-7000-8000-000000000000`);
  await expect(field.getByRole('alert')).toBeVisible(LONG);
  await shot(field, 'case-not-opened');
  const stranger = watched(await newPhonePage(phone));
  await logIn(stranger, programs, 'expert2');
  await stranger.goto(`${programs.url}/field`);
  await expect(stranger.getByRole('heading', { name: /for technicians/ })).toBeVisible(LONG);
  await shot(stranger, 'wrong-role');
  // The page stands, its data do not come.
  await field.route('**/api/**/cases*', (route) => route.abort());
  await field.route('**/api/**/registers*', (route) => route.abort());
  await field.goto(`${programs.url}/field`);
  await expect(field.getByRole('button', { name: 'Try again' })).toBeVisible(LONG);
  await shot(field, 'home-failed');
  nothingFound();
});

test('phone that does not trust the server yet', async () => {
  const own = await Programs.withOwnAuthority();
  try {
    for (const [language, locale] of [['de', 'de-AT'], ['en', 'en-GB']] as const) {
      const page = await newPhonePage(phone, { locale, permissions: [] });
      await page.goto(`${own.url}/trust`);
      await expect(page.getByRole('link', { name: /ZERTIFIKAT LADEN|DOWNLOAD CERTIFICATE/ })).toBeVisible();
      for (const colorScheme of ['dark', 'light'] as const) {
        await page.emulateMedia({ colorScheme });
        await page.screenshot({ path: join(out, `field-trust-phone-${colorScheme}-${language}.png`), fullPage: true, scale: 'css' });
        found.push(...(await violations(page)).map((v) => `field-trust-${colorScheme}-${language}: ${v}`));
      }
    }
  } finally {
    await own.stop();
  }
  nothingFound();
});

test('phone in the call', async () => {
  test.setTimeout(900_000);
  const field = watched(await newPhonePage(phone));
  await field.addInitScript(lend);
  const expert = await pageOf(desk, programs, 'expert');
  await callFromField(field, programs, 'Mechanical seal leaks');
  await takeCall(expert, 'Mechanical seal leaks');
  await field.getByRole('button', { name: 'YES, RECORD' }).click();
  await expect(field.getByTestId('recording-pill')).toHaveText(/Recording \d/, LONG);
  await across(field, 'live');
  await field.getByRole('button', { name: 'Switch the light on' }).click();
  await field.getByRole('button', { name: /Switch the microphone off/ }).click();
  await shot(field, 'live-light-muted');
  await field.getByRole('button', { name: /Switch the microphone on/ }).click();
  await field.getByRole('button', { name: 'Switch the light off' }).click();

  await expert.getByRole('button', { name: /Laser pointer/ }).click();
  const board = (await expert.getByTestId('board').boundingBox())!;
  let turn = 0;
  const pointing = setInterval(() => void expert.mouse.move(board.x + board.width * (0.42 + 0.02 * Math.sin(turn++)), board.y + board.height * 0.4).catch(() => {}), 300);
  await expect(field.getByTestId('pointer')).toBeVisible();
  await across(field, 'live-pointed');
  clearInterval(pointing);

  await instruct(expert, 'Loosen the four screws crosswise, then show me the ring');
  await expect(field.getByTestId('step-state')).toHaveText(/Seen/, LONG);
  await across(field, 'step');
  await instruct(expert, '');
  await expect(field.getByTestId('step-state')).toHaveText(/Seen/, LONG);
  await across(field, 'step-second');
  await field.getByRole('button', { name: 'DONE', exact: true }).click();
  await field.getByRole('button', { name: 'Next' }).click();
  await expect(field.getByTestId('step-state')).toHaveText(/Done/, LONG);
  await shot(field, 'step-done');
  await instruct(expert, 'Press the red button');
  await field.getByRole('button', { name: 'REFUSE' }).click();
  await field.getByRole('button', { name: 'Next' }).click();
  await field.getByRole('button', { name: 'Next' }).click();
  await expect(field.getByTestId('step-state')).toHaveText(/Refused/, LONG);
  await shot(field, 'step-refused');
  await field.getByRole('button', { name: 'To the camera' }).click();
  await across(field, 'live-step-open');

  await take(field, 'field-photo-saved', undefined, ['phone'], async (language) => {
    const [photo, saved] = language === 'de' ? ['Foto', 'Foto im Fall gespeichert.'] : ['Photo', 'Photo saved in the case.'];
    // The notice of the photo before goes first.
    await expect(field.getByText(saved)).toBeHidden(LONG);
    await field.getByRole('button', { name: photo, exact: true }).click();
    await expect(field.getByText(saved)).toBeVisible(LONG);
  });
  await expert.getByPlaceholder('Message to everyone').fill('The ring is part 4711, on the shelf to the left.');
  await expert.keyboard.press('Enter');
  await expect(field.getByRole('button', { name: /1 new message/ })).toBeVisible();
  await shot(field, 'live-message');
  await field.getByRole('button', { name: /1 new message/ }).click();
  await expect(field.getByRole('log').locator('img').first()).toBeVisible(LONG);
  await across(field, 'text');
  await field.getByRole('button', { name: 'Back to the picture' }).click();
  await field.getByRole('button', { name: 'Stop recording' }).click();
  await expect(field.getByText(/Without recording nothing is kept/)).toBeVisible();
  await across(field, 'withdrawn');
  await field.getByRole('button', { name: 'End', exact: true }).click();
  await across(field, 'end');
  await field.getByRole('button', { name: 'KEEP TALKING' }).click();

  await programs.server.stop();
  await expect(field.getByText(/Connection lost for/)).toBeVisible(LONG);
  await across(field, 'lost');
  await programs.server.start();
  await expect(field.getByTestId('link-word')).toHaveText(/Good/, LONG);

  const second = watched(await field.context().newPage());
  await second.goto(field.url());
  await expect(second.getByRole('button', { name: 'GO ON HERE' })).toBeVisible(LONG);
  await shot(second, 'running-elsewhere');
  await second.getByRole('button', { name: 'GO ON HERE' }).click();
  await expect(field.getByText(/another window/)).toBeVisible(LONG);
  await across(field, 'replaced');
  await second.close();
  await field.getByRole('button', { name: 'GO ON HERE' }).click();
  await expect(field.getByText(/another window/)).toBeHidden(LONG);
  await endSession(expert, 'Solved');
  await expect(field.getByRole('heading', { name: 'The call has ended.' })).toBeVisible(LONG);
  await across(field, 'ended');
  nothingFound();
});

/** Neither axe nor the page's own errors; sizes and cut words are judged by who looks. */
function nothingFound(): void {
  expect([...new Set(found)].filter((f) => f.includes(' axe ') || f.startsWith('field: '))).toEqual([]);
}

function watched(page: Page): Page {
  page.on('pageerror', (e) => found.push(`field: ${e.message}`));
  return page;
}

/** A second camera, a lamp and a zoom lens, which a clip as a camera has not. */
function lend(): void {
  const list = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
  navigator.mediaDevices.enumerateDevices = async () => {
    const all = await list();
    return [...all, ...all.filter((d) => d.kind === 'videoinput')];
  };
  const able = MediaStreamTrack.prototype.getCapabilities;
  MediaStreamTrack.prototype.getCapabilities = function (this: MediaStreamTrack) {
    return { ...able.call(this), ...(this.kind === 'video' ? { torch: true, zoom: { min: 1, max: 5, step: 0.1 } } : {}) };
  };
  const apply = MediaStreamTrack.prototype.applyConstraints;
  MediaStreamTrack.prototype.applyConstraints = function (this: MediaStreamTrack, c) {
    return JSON.stringify(c ?? {}).match(/torch|zoom/) ? Promise.resolve() : apply.call(this, c);
  };
}

async function instruct(expert: Page, words: string): Promise<void> {
  await expert.keyboard.press('o');
  await draw(expert, [[0.4, 0.3], [0.62, 0.62]]);
  await expert.keyboard.press('a');
  await draw(expert, [[0.2, 0.8], [0.38, 0.6]]);
  if (words) await expert.getByPlaceholder('Instruction in words').fill(words);
  await expert.keyboard.press('Enter');
}
