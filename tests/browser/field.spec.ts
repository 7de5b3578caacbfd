/**
 * A technician without glasses: a phone's browser at /field has the whole product.
 *
 * Real programs, real Chromium on both sides, the workshop clip as the phone's camera and microphone. Each step asserts what its
 * person would see or what lies on the disk.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import { type Browser, type Page, expect, test } from '@playwright/test';

import { callFromField, download, draw, endSession, logIn, newPage, newPhonePage, openBrowser, openPhone, replayWithReason, takeCall } from './people.ts';
import { violations } from './checks.ts';
import { eventually, expectMark, frameNumber } from './pictures.ts';
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

  await test.step('a mark arrives on the frame the expert saw, in its place', async () => {
    const frozen = await mark(expert);
    const picture = field.getByTestId('marked-picture');
    await expect(picture).toBeVisible();
    await expect.poll(() => frameNumber(picture), 'the very picture').toBe(frozen);
    await expect(field.getByRole('heading', { name: 'Loosen this first' })).toBeVisible();
    await expectMark(field);
    const receipt = expert.getByTestId('receipt-state').first();
    await expect(receipt).toHaveText(/Shown|Seen/);
    await expect(receipt).toHaveText(/Seen/);
    await look(field, 'instruction');
    await field.getByRole('button', { name: 'DONE', exact: true }).click();
    await expect(receipt).toHaveText(/Done/);
    await expect(field.getByRole('button', { name: '1 instruction' })).toBeVisible();
  });

  await test.step('steps keep their order, and one can look back', async () => {
    await mark(expert, 'Then this');
    await expect(field.getByRole('heading', { name: 'Then this' })).toBeVisible();
    await field.getByRole('button', { name: 'To the camera' }).click();
    await mark(expert, 'And the ring');
    await expect(field.getByRole('heading', { name: 'And the ring' })).toBeVisible();
    await expect(field.getByText('Instruction 3 of 3')).toBeVisible();
    await field.getByRole('button', { name: 'REFUSE' }).click();
    await expect(expert.getByTestId('receipt-state').first()).toHaveText(/Refused/);
    await expect(field.getByRole('heading', { name: 'Then this' }), 'the next open one').toBeVisible();
    await field.getByRole('button', { name: 'Previous' }).click();
    await expect(field.getByRole('heading', { name: 'Loosen this first' })).toBeVisible();
    await expect(field.getByTestId('step-state')).toHaveText(/Done/);
    await expect(field.getByRole('button', { name: 'DONE', exact: true })).toBeHidden();
    await look(field, 'looking-back');
    const whole = (await field.getByTestId('marked-picture').boundingBox())!;
    await field.getByRole('button', { name: /: Enlarge$/ }).click({ position: { x: whole.width * 0.3, y: whole.height * 0.5 } });
    const nearer = (await field.getByTestId('marked-picture').boundingBox())!;
    expect(nearer.width / whole.width).toBeCloseTo(2.4, 1);
    expect(nearer.x + 0.3 * nearer.width, 'what was tapped stands in the middle').toBeCloseTo(whole.x + whole.width / 2, -1);
    await look(field, 'nearer');
    await field.getByRole('button', { name: /: Whole picture$/ }).click();
    await expect.poll(async () => (await field.getByTestId('marked-picture').boundingBox())!.width).toBe(whole.width);
    await field.getByRole('button', { name: 'Next' }).click();
    await field.getByRole('button', { name: 'DONE', exact: true }).click();
    await expect(expert.getByTestId('receipt-state').nth(1)).toHaveText(/Done/);
  });

  await test.step('a photo and a message go into the case', async () => {
    await field.getByRole('button', { name: 'Photo', exact: true }).click();
    await expect(field.getByText('Photo saved in the case.')).toBeVisible();
    const photo = expert.getByRole('log').locator('img').first();
    await expect(photo).toBeVisible();
    await expect.poll(() => photo.evaluate((i: HTMLImageElement) => i.naturalWidth)).toBeGreaterThanOrEqual(1280);
    await expert.getByPlaceholder('Message to everyone').fill('The ring is part 4711.');
    await expert.keyboard.press('Enter');
    await field.getByRole('button', { name: 'Text 1 new message' }).click();
    await expect(field.getByRole('log').getByText('The ring is part 4711.')).toBeVisible();
    await field.getByPlaceholder('Message to everyone').fill('I have one in the van.');
    await field.keyboard.press('Enter');
    await expect(expert.getByRole('log').getByText('I have one in the van.')).toBeVisible();
    await look(field, 'text');
    await field.getByRole('button', { name: 'Back to the picture' }).click();
  });

  await test.step('the pointer is seen on the own picture', async () => {
    await expert.getByRole('button', { name: /Laser pointer/ }).click();
    const box = (await expert.getByTestId('board').boundingBox())!;
    await expect
      .poll(async () => {
        await expert.mouse.move(box.x + box.width * (0.4 + Math.random() * 0.1), box.y + box.height * 0.5);
        return field.getByTestId('pointer').count();
      })
      .toBe(1);
  });

  await test.step('microphone off is off; on is on', async () => {
    await field.getByRole('button', { name: /Switch the microphone off/ }).click();
    await expect.poll(() => hears(expert), 'silence').toBe(false);
    await field.getByRole('button', { name: /Switch the microphone on/ }).click();
    await expect.poll(() => hears(expert)).toBe(true);
  });

  await test.step('a yes taken back stops the recording within two seconds, and photos with it', async () => {
    await field.getByRole('button', { name: 'Stop recording' }).click();
    await expect(field.getByTestId('recording-pill')).toHaveText(/Not recording/, { timeout: 2_000 });
    await expect(expert.getByTestId('recording-pill')).toHaveText(/Not recording/, { timeout: 2_000 });
    await expect(field.getByText('Without recording nothing is kept, no photo either.')).toBeVisible();
    await expect(field.getByRole('button', { name: 'Photo', exact: true })).toBeHidden();
    await look(field, 'stopped');
    await field.getByRole('button', { name: 'Allow recording' }).click();
    await expect(expert.getByTestId('recording-pill')).toHaveText(/Recording \d/);
  });

  await test.step('a page loaded anew is in the same session', async () => {
    await field.reload();
    await expect(field.getByTestId('recording-pill')).toHaveText(/Recording \d/);
    await expect(field.getByTestId('watchers')).toHaveText(/Anton Weber is watching/);
    await expect.poll(() => moves(expert)).toBe(true);
    await expect(expert.getByTestId('recording-pill')).toHaveText(/Recording \d/);
  });

  await test.step('a lost connection is said, and comes back by itself', async () => {
    await programs.server.stop();
    await expect(field.getByText(/Connection lost for/)).toBeVisible();
    await look(field, 'lost');
    await programs.server.start();
    await expect(field.getByTestId('link-word')).toHaveText(/Good/);
    await expect.poll(() => moves(expert)).toBe(true);
    await expect(field.getByTestId('watchers')).toHaveText(/Anton Weber is watching/);
  });

  await test.step('ending asks once', async () => {
    await expect(expert.getByTestId('recording-pill')).toHaveText(/Recording \d/);
    await field.getByRole('button', { name: 'End', exact: true }).click();
    await expect(field.getByRole('button', { name: 'KEEP TALKING' })).toBeFocused();
    await look(field, 'end');
    await field.keyboard.press('Enter');
    await expect(field.getByRole('dialog')).toBeHidden();
    await field.getByRole('button', { name: 'End', exact: true }).click();
    await field.getByRole('button', { name: 'END NOW' }).click();
    await expect(field.getByRole('heading', { name: 'The call has ended.' })).toBeVisible();
    await expect(expert.getByText('The session has ended.')).toBeVisible();
    await look(field, 'ended');
  });

  let bundle = '';
  await test.step('the manager replays it: picture, voices, marks on their frame, the photo', async () => {
    const manager = watched('manager', await newPage(desk));
    await logIn(manager, programs, 'manager');
    await manager.getByRole('link', { name: /Shaft seal leaks/ }).first().click();
    await replayWithReason(manager, 'Warranty check');
    await expect(manager.getByTestId('chain-pill')).toHaveText(/Verified/);
    const video = manager.getByTestId('replay-video');
    const at = await eventually(() => frameNumber(video));
    await manager.getByRole('button', { name: 'Play', exact: true }).click();
    await expect.poll(() => frameNumber(video)).not.toBe(at);
    await expect.poll(() => hears(manager), 'the voices are heard').toBe(true);
    await manager.getByRole('button', { name: 'Pause', exact: true }).click();
    await manager.getByRole('list').getByText(/Instruction by/).first().click();
    await expect(manager.locator('.stage [data-mark]').first()).toBeVisible();
    await look(manager, 'replay');
    await manager.getByRole('button', { name: 'To the original frame' }).click();
    await expect.poll(() => frameNumber(video), 'the recording stands at the marked frame').toBe(marked[0]);
    await manager.getByRole('tab', { name: 'Chat' }).click();
    await expect(manager.getByRole('img', { name: /^foto-/ }).first()).toBeVisible();
    bundle = await download(manager, 'Warranty file', programs.folder);
  });

  await test.step('the verifier agrees', () => {
    const found = spawnSync(join(binaries, 'lotse-verify'), [bundle, '--org-key', String(programs.server.ready['fingerprint'])], { encoding: 'utf8' });
    expect(found.stdout).toMatch(/^AUTHENTIC/);
    expect(found.status).toBe(0);
  });

  expect(faults, 'errors in the consoles').toEqual([]);
});

test('a call without recording keeps no picture', async () => {
  const field = watched('technician', await newPhonePage(phone));
  const expert = watched('expert', await newPage(desk));

  await test.step('whoever is no technician is told so', async () => {
    await logIn(expert, programs, 'expert');
    await expert.goto(`${programs.url}/field`);
    await expect(expert.getByRole('heading', { name: 'This page is for technicians' })).toBeVisible();
    await look(expert, 'wrong-role');
    await expert.getByRole('link', { name: 'Back to cases' }).or(expert.getByRole('link', { name: /cases/i })).first().click();
  });

  await test.step('TALK WITHOUT RECORDING: the picture flows, and the mark comes with its picture through memory', async () => {
    await callFromField(field, programs, 'Noise in the bearing', '');
    await takeCall(expert, 'Noise in the bearing');
    await field.getByRole('button', { name: 'TALK WITHOUT RECORDING' }).click();
    await expect.poll(() => moves(expert)).toBe(true);
    const frozen = await mark(expert);
    const picture = field.getByTestId('marked-picture');
    await expect(picture).toBeVisible();
    await expect.poll(() => frameNumber(picture)).toBe(frozen);
    await expectMark(field);
    await field.getByRole('button', { name: 'DONE', exact: true }).click();
    await expect(expert.getByTestId('receipt-state').first()).toHaveText(/Done/);
  });

  await test.step('no photo is offered, and nothing of it was kept', async () => {
    await field.getByRole('button', { name: 'No photo: Photos are possible only while recording is allowed.' }).click();
    await expect(field.getByText('Photos are possible only while recording is allowed.').last()).toBeVisible();
    await expect(expert.getByTestId('recording-pill')).toHaveText(/Not recording/);
    await look(field, 'without-recording');
    await endSession(expert, 'Still open');
    await expect(field.getByRole('heading', { name: 'The call has ended.' })).toBeVisible();
    expect(mediaBytes(programs, caseOf(expert))).toBe(0);
    const blobs = join(programs.folder, 'server/blobs', caseOf(expert));
    expect(existsSync(blobs) ? readdirSync(blobs) : []).toEqual([]);
  });

  await test.step('again in this case, with no picture and sound: text and instructions go on; a later yes opens the way', async () => {
    await field.getByRole('button', { name: 'CALL IN THIS CASE' }).click();
    await expert.goto(`${programs.url}/cases`);
    await takeCall(expert, 'Noise in the bearing');
    await field.getByRole('button', { name: /NO THANK YOU/ }).click();
    await expect(expert.getByText(/takes part without picture/)).toBeVisible();
    expect(await videoWidth(expert)).toBe(0);
    // Not even the lens is on.
    expect(await field.getByTestId('own-video').evaluate((v: HTMLVideoElement) => v.srcObject)).toBeNull();
    await look(field, 'refused');
    await field.getByRole('button', { name: 'Share picture and sound' }).click();
    await expect.poll(() => moves(expert)).toBe(true);
    await endSession(expert, 'Solved');
  });

  await test.step('the start shows the case', async () => {
    await field.goto(`${programs.url}/field`);
    await expect(field.getByRole('link', { name: /Noise in the bearing/ })).toBeVisible();
    await look(field, 'home');
  });

  expect(faults, 'errors in the consoles').toEqual([]);
});

test('a phone with more cameras turns them round in the call', async () => {
  // A clip can be one camera only; these three are Chromium's own, and its second one sees depth, which no encoder takes.
  const manyEyed = await openBrowser(['--use-fake-device-for-media-stream=device-count=3']);
  try {
    const field = watched('technician', await newPhonePage(manyEyed));
    const expert = watched('expert', await newPage(desk));
    await logIn(expert, programs, 'expert');
    await callFromField(field, programs, 'Which valve is it', 'p-205');
    await takeCall(expert, 'Which valve is it');
    await field.getByRole('button', { name: 'TALK WITHOUT RECORDING' }).click();
    const newest = () => expert.evaluate(() => (window as unknown as { lotse: { painted(): [number, number][] } }).lotse.painted().at(-1)?.[0] ?? 0);
    await expect.poll(newest).toBeGreaterThan(0);
    const device = () => field.getByTestId('own-video').evaluate((v: HTMLVideoElement) => (v.srcObject as MediaStream | null)?.getVideoTracks()[0]?.getSettings().deviceId);
    const seen: (string | undefined)[] = [undefined, await device()];
    for (let turn = 0; turn < 2; turn++) {
      await field.getByRole('button', { name: 'Turn the camera' }).click();
      await expect.poll(async () => !seen.includes(await device())).toBe(true);
      seen.push(await device());
    }
    const then = await newest();
    await expect.poll(newest, 'the other camera is seen').not.toBe(then);

    // The same person in another window takes the call there; the first one says so and rests until it is wanted again.
    const second = watched('technician', await field.context().newPage());
    await second.goto(field.url());
    await second.getByRole('button', { name: 'GO ON HERE' }).click();
    await expect(field.getByText(/runs in another window/)).toBeVisible();
    await expect(second.getByTestId('watchers')).toHaveText(/Anton Weber is watching/);
    await look(field, 'replaced');
    await field.getByRole('button', { name: 'GO ON HERE' }).click();
    await expect(second.getByText(/runs in another window/)).toBeVisible();
    await expect(field.getByText(/runs in another window/)).toBeHidden();
    await second.close();
    await endSession(expert, 'Solved');
  } finally {
    await manyEyed.close();
  }
  expect(faults, 'errors in the consoles').toEqual([]);
});

/** Frame numbers of the pictures that were marked, in order. */
const marked: number[] = [];

/** The expert freezes, draws a rectangle over 30 to 60 % of the width and 30 to 70 % of the height, says it in words and sends. */
async function mark(expert: Page, words = 'Loosen this first'): Promise<number> {
  await expert.keyboard.press('r');
  await draw(expert, [[0.3, 0.3], [0.6, 0.7]]);
  await expect(expert.getByTestId('frozen-picture')).toBeVisible();
  const frozen = await eventually(() => frameNumber(expert.getByTestId('frozen-picture')));
  marked.push(frozen);
  await expert.getByPlaceholder(/Instruction in words/).fill(words);
  await expert.keyboard.press('Enter');
  return frozen;
}

/** Does the expert's live picture go on? */
async function moves(page: Page): Promise<boolean> {
  const first = await frameNumber(page.getByTestId('live-video')).catch(() => null);
  if (first === null) return false;
  for (let i = 0; i < 20; i++) {
    const now = await frameNumber(page.getByTestId('live-video'));
    if (now !== null && now !== first) return true;
  }
  return false;
}

/** The case a page shows. */
function caseOf(page: Page): string {
  return new URL(page.url()).pathname.split('/')[2] ?? '';
}

function watched(who: string, page: Page): Page {
  page.on('console', (m) => {
    // As in story.spec.ts; and a server that was stopped on purpose refuses connections.
    if (m.type() === 'error' && !/\b401\b|VideoFrame was garbage collected|ERR_CONNECTION_REFUSED/.test(m.text())) faults.push(`${who}: ${m.text()}`);
  });
  page.on('pageerror', (e) => faults.push(`${who}: ${e.message}`));
  return page;
}

function videoWidth(page: Page): Promise<number> {
  return page.evaluate(() => document.querySelector<HTMLVideoElement>('[data-testid=live-video]')?.videoWidth ?? 0);
}

/** Keeps a picture for people to look at, and asks axe about this state in both looks. */
async function look(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: join(pictures, `${name}.png`) });
  for (const theme of ['dark', 'light']) {
    await page.evaluate((t) => (document.documentElement.dataset['theme'] = t), theme);
    // Colours fade for 120 ms.
    await page.waitForTimeout(200);
    expect(await violations(page), `${name}, ${theme}`).toEqual([]);
  }
}
