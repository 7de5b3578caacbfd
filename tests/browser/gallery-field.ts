/**
 * Pictures of a technician's page on a phone, upright and across.
 *
 * Owns: the walk to these states. Elsewhere: how a state is taken (`shots.ts`), the experts' pages (`gallery.ts`, `gallery-live.ts`).
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { type Page, expect, test } from '@playwright/test';

import { callFromField, draw, endSession, newPhonePage, openBrowser, openPhone, takeCall } from './people.ts';
import { Programs } from './programs.ts';
import { LONG, found, out, pageOf, take } from './shots.ts';

const shot = (page: Page, name: string) => take(page, `field-${name}`, undefined, ['phone', 'wide']);

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

test('gallery of the phone', async () => {
  test.setTimeout(1_800_000);
  mkdirSync(out, { recursive: true });
  const programs = await Programs.start([]);
  const desk = await openBrowser();
  const phone = await openPhone(programs.folder);
  try {
    const field = await newPhonePage(phone);
    field.on('pageerror', (e) => found.push(`field: ${e.message}`));
    await field.addInitScript(lend);
    await field.goto(`${programs.url}/field`);
    await field.getByLabel('User name').fill('technician');
    await field.getByLabel('Password').fill(programs.account('technician').password);
    await field.getByRole('button', { name: 'Log in' }).click();
    await expect(field.getByText(/No case yet/)).toBeVisible(LONG);
    await shot(field, 'home-empty');
    await callFromField(field, programs, 'Mechanical seal leaks');
    await expect(field.getByTestId('link-word')).toHaveText(/Good/, LONG);
    await shot(field, 'calling');

    const expert = await pageOf(desk, programs, 'expert');
    await programs.archivist.stop();
    await takeCall(expert, 'Mechanical seal leaks');
    await expect(field.getByText('no archivist is connected')).toBeVisible(LONG);
    await shot(field, 'consent-no-archivist');
    await programs.archivist.start();
    await expect(field.getByText('for your company, as archivist')).toBeVisible(LONG);
    await shot(field, 'consent');
    await field.getByRole('button', { name: 'YES, RECORD' }).click();
    await expect(field.getByTestId('recording-pill')).toHaveText(/Recording \d/, LONG);
    await shot(field, 'live');
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
    await shot(field, 'live-pointed');
    clearInterval(pointing);

    await instruct(expert, 'Loosen the four screws crosswise, then show me the ring');
    await expect(field.getByTestId('step-state')).toHaveText(/Seen/, LONG);
    await shot(field, 'step');
    await instruct(expert, '');
    await expect(field.getByTestId('step-state')).toHaveText(/Seen/, LONG);
    await shot(field, 'step-second');
    await field.getByRole('button', { name: 'DONE', exact: true }).click();
    await field.getByRole('button', { name: 'Next' }).click();
    await shot(field, 'step-done');
    await field.getByRole('button', { name: 'To the camera' }).click();
    await shot(field, 'live-step-open');

    await field.getByRole('button', { name: 'Photo', exact: true }).click();
    await expect(field.getByText('Photo saved in the case.')).toBeVisible(LONG);
    await shot(field, 'photo-saved');
    await expert.getByPlaceholder('Message to everyone').fill('The ring is part 4711, on the shelf to the left.');
    await expert.keyboard.press('Enter');
    await expect(field.getByRole('button', { name: /1 new message/ })).toBeVisible();
    await field.getByRole('button', { name: /1 new message/ }).click();
    await expect(field.getByRole('log').locator('img')).toBeVisible(LONG);
    await shot(field, 'text');
    await field.getByRole('button', { name: 'Back to the picture' }).click();
    await field.getByRole('button', { name: 'Stop recording' }).click();
    await expect(field.getByText(/Without recording nothing is kept/)).toBeVisible();
    await shot(field, 'without-recording');
    await field.getByRole('button', { name: 'End', exact: true }).click();
    await shot(field, 'end');
    await field.getByRole('button', { name: 'KEEP TALKING' }).click();

    await programs.server.stop();
    await expect(field.getByText(/Connection lost for/)).toBeVisible(LONG);
    await shot(field, 'lost');
    await programs.server.start();
    await expect(field.getByTestId('link-word')).toHaveText(/Good/, LONG);

    const second = await field.context().newPage();
    await second.goto(field.url());
    await expect(second.getByRole('button', { name: 'GO ON HERE' })).toBeVisible(LONG);
    await shot(second, 'running-elsewhere');
    await second.getByRole('button', { name: 'GO ON HERE' }).click();
    await expect(field.getByText(/another window/)).toBeVisible(LONG);
    await shot(field, 'replaced');
    await second.close();
    await field.getByRole('button', { name: 'GO ON HERE' }).click();
    await expect(field.getByText(/another window/)).toBeHidden(LONG);
    await endSession(expert, 'Solved');
    await expect(field.getByRole('heading', { name: 'The call has ended.' })).toBeVisible(LONG);
    await shot(field, 'ended');

    await field.getByRole('button', { name: 'CALL IN THIS CASE' }).click();
    await expert.goto(`${programs.url}/cases`);
    await takeCall(expert, 'Mechanical seal leaks');
    await field.getByRole('button', { name: /NO THANK YOU/ }).click();
    await expect(field.getByText(/No picture or sound from you/)).toBeVisible(LONG);
    await shot(field, 'refused');
    await endSession(expert, 'Still open');
    await field.getByRole('link', { name: 'To the start' }).last().click();
    await expect(field.getByRole('link', { name: /Mechanical seal leaks/ })).toBeVisible(LONG);
    await shot(field, 'home');

    const blind = await newPhonePage(phone);
    await blind.addInitScript(() => (navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', 'NotAllowedError'))));
    await callFromField(blind, programs, 'Noise in the bearing', '');
    await expect(blind.getByText(/does not release the camera/)).toBeVisible(LONG);
    await shot(blind, 'no-camera');
    await expert.goto(`${programs.url}/field`);
    await expect(expert.getByRole('heading', { name: /for technicians/ })).toBeVisible(LONG);
    await take(expert, 'field-wrong-role');
  } finally {
    writeFileSync(join(out, 'found-field.txt'), `${[...new Set(found)].join('\n')}\n`);
    await desk.close();
    await phone.close();
    await programs.stop();
  }
  expect([...new Set(found)].filter((f) => f.includes(' axe ')), 'axe').toEqual([]);
});

async function instruct(expert: Page, words: string): Promise<void> {
  await expert.keyboard.press('o');
  await draw(expert, [[0.4, 0.3], [0.62, 0.62]]);
  await expert.keyboard.press('a');
  await draw(expert, [[0.2, 0.8], [0.38, 0.6]]);
  if (words) await expert.getByPlaceholder('Instruction in words').fill(words);
  await expert.keyboard.press('Enter');
}
