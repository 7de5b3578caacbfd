/**
 * The main job, once, from end to end: a call is taken, consent is given, the picture is marked, the glasses show the
 * mark, the technician answers, the session ends, a manager replays it, and the bundle proves itself.
 *
 * Real programs, real clips, real Chromium. Each step asserts what its person would see or what lies on the disk.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { type Browser, type Page, expect, test } from '@playwright/test';

import { download, draw, endSession, logIn, newPage, openBrowser, replayWithReason, takeCall } from './people.ts';
import { frameNumber } from './pictures.ts';
import { type Glasses, Programs, binaries, root } from './programs.ts';
import { hears, mediaBytes } from './signs.ts';

const pictures = join(root, 'tests/out/story');

let programs: Programs;
let browser: Browser;
/** Requests that a page made to anywhere but our own programs. */
const foreign: string[] = [];
/** What a page's console called an error. */
const faults: string[] = [];

test.beforeAll(async () => {
  mkdirSync(pictures, { recursive: true });
  programs = await Programs.start();
  browser = await openBrowser();
});

test.afterAll(async () => {
  await browser?.close();
  await programs?.stop();
});

test('a leaking pump is repaired from afar, and it can be proven', async () => {
  const [pump, bike] = programs.glasses as [Glasses, Glasses];

  await test.step('the expert logs in and sees both calls waiting', async () => {
    const page = await person('expert');
    await expect(page.getByRole('button', { name: /Take call/ })).toHaveCount(2);
    await expect(page.getByText('Mechanical seal leaks').first()).toBeVisible();
    await look(page, 'queue');
  });

  const expert = people.get('expert')!;

  await test.step('before any answer nothing flows', async () => {
    await takeCall(expert, 'Mechanical seal leaks');
    await expect(expert.getByText(/has not answered the question about recording/)).toBeVisible();
    await expect.poll(async () => (await pump.state())['screen']).toBe('consent');
    expect(await videoWidth(expert)).toBe(0);
    expect(mediaBytes(programs)).toBe(0);
    await look(expert, 'waiting-for-answer');
    writeFileSync(join(pictures, 'hud-consent.png'), pump.picture());
  });

  await test.step('YES RECORD on the wear page: picture, sound and recording', async () => {
    const wear = await pageFor('technician');
    await wear.goto(pump.wear);
    await wear.getByRole('button', { name: /YES RECORD/ }).click();
    await expect.poll(() => videoWidth(expert)).toBe(1280);
    const first = await eventually(() => frameNumber(expert.getByTestId('live-video')));
    await expect.poll(() => frameNumber(expert.getByTestId('live-video'))).not.toBe(first);
    await expect(expert.getByTestId('recording-pill')).toHaveText(/Recording \d/);
    await expect.poll(() => mediaBytes(programs)).toBeGreaterThan(0);
    await expect.poll(() => hears(expert), 'the expert hears the technician').toBe(true);
    await look(wear, 'wear');
  });

  await test.step('the technician hears the expert', async () => {
    const before = pump.heard().length;
    await expert.locator('body').click({ position: { x: 5, y: 5 } });
    await expert.keyboard.down('Space');
    // Chromium's fake microphone beeps about once a second.
    await expect.poll(() => loudness(pump.heard().subarray(before))).toBeGreaterThan(0.01);
    await expert.keyboard.up('Space');
  });

  await test.step('pen down freezes the frame seen, live goes on in a small picture', async () => {
    await expert.keyboard.press('p');
    await draw(expert, [[0.35, 0.45], [0.45, 0.4], [0.55, 0.5], [0.45, 0.62], [0.35, 0.45]]);
    await expect(expert.getByTestId('frozen-picture')).toBeVisible();
    const frozen = await frameNumber(expert.getByTestId('frozen-picture'));
    expect(frozen).not.toBeNull();
    const live = await eventually(() => frameNumber(expert.getByTestId('live-video')));
    await expect.poll(() => frameNumber(expert.getByTestId('live-video'))).not.toBe(live);
    expect(await frameNumber(expert.getByTestId('frozen-picture')), 'it stays frozen').toBe(frozen);
  });

  await test.step('arrow, circle, text, number; undo and erase', async () => {
    await expert.keyboard.press('a');
    await draw(expert, [[0.7, 0.7], [0.58, 0.62]]);
    await expert.keyboard.press('2');
    await expert.keyboard.press('o');
    await draw(expert, [[0.62, 0.1], [0.78, 0.34]]);
    await expert.keyboard.press('n');
    await draw(expert, [[0.6, 0.6]]);
    await expert.keyboard.press('t');
    await draw(expert, [[0.1, 0.12]]);
    await expert.keyboard.type('Loosen this first');
    await expert.keyboard.press('Enter');
    const board = expert.getByTestId('board');
    await expect(board.locator('[data-mark]')).toHaveCount(5);
    await expert.keyboard.press('Control+z');
    await expect(board.locator('[data-mark]')).toHaveCount(4);
    await expert.keyboard.press('Control+Shift+z');
    await expect(board.locator('[data-mark]')).toHaveCount(5);
    await expert.keyboard.press('e');
    await draw(expert, [[0.62, 0.22]]);
    await expect(board.locator('[data-mark]')).toHaveCount(4);
    await look(expert, 'marked');
  });

  await test.step('Enter sends; the glasses show it; the receipts come back', async () => {
    await expert.keyboard.press('v');
    await expert.keyboard.press('Enter');
    const receipt = expert.getByTestId('receipt-state').first();
    await expect(receipt).toHaveText(/Shown|Seen/);
    await expect.poll(async () => (await pump.state())['screen']).toBe('instruction');
    writeFileSync(join(pictures, 'hud-instruction.png'), pump.picture());
    await expect(receipt).toHaveText(/Seen/);
    await pump.say('DONE');
    await expect(receipt).toHaveText(/Done/);
    await look(expert, 'done');
  });

  await test.step('the laser pointer is seen in the glasses', async () => {
    await expert.getByRole('button', { name: /Laser pointer/ }).click();
    const box = (await expert.getByTestId('board').boundingBox())!;
    await expect
      .poll(async () => {
        await expert.mouse.move(box.x + box.width * (0.3 + Math.random() * 0.3), box.y + box.height * 0.5);
        return pump.shown().some((p) => p.screen === 'pointing');
      })
      .toBe(true);
    await expert.keyboard.press('v');
  });

  await test.step('a message and a file go into the case', async () => {
    const message = expert.getByPlaceholder('Message to everyone');
    await message.fill('Pump is off and locked out.');
    await message.press('Enter');
    await expect(expert.getByRole('log').getByText('Pump is off and locked out.')).toBeVisible();
    await expert.locator('input[type=file]').setInputFiles({
      name: 'seal-drawing.txt',
      mimeType: 'text/plain',
      buffer: Buffer.from('o-ring behind the support ring\n'.repeat(5000)),
    });
    await expect(expert.getByText('seal-drawing.txt').first()).toBeVisible();
  });

  await test.step('END with an outcome closes the session', async () => {
    await endSession(expert, 'Solved');
    await expect.poll(async () => (await pump.state())['session']).toBeNull();
  });

  await test.step('a call without recording keeps no picture and no voice', async () => {
    const pumpCase = caseOf(expert);
    await expert.goto(`${programs.url}/cases`);
    await takeCall(expert, 'Rental bike loses its chain');
    await expect.poll(async () => (await bike.state())['screen']).toBe('consent');
    await bike.say('CALL_ONLY');
    await expect.poll(() => videoWidth(expert)).toBeGreaterThan(0);
    await expert.keyboard.press('p');
    await draw(expert, [[0.4, 0.4], [0.5, 0.5]]);
    await expert.keyboard.press('v');
    await expert.keyboard.press('Enter');
    await expect(expert.getByTestId('receipt-state').first()).toHaveText(/Shown|Seen/);
    await expect(expert.getByTestId('recording-pill')).toHaveText(/Not recording/);
    await bike.say('REFUSE');
    await expect(expert.getByTestId('receipt-state').first()).toHaveText(/Refused/);
    await endSession(expert, 'Still open');
    expect(caseOf(expert)).not.toBe(pumpCase);
    expect(mediaBytes(programs, pumpCase), 'the recorded case has its fragments under its id').toBeGreaterThan(0);
    expect(mediaBytes(programs, caseOf(expert))).toBe(0);
  });

  let bundle = '';
  await test.step('the manager gives a reason and replays it', async () => {
    const page = await person('manager');
    await page.getByRole('link', { name: /Mechanical seal leaks/ }).first().click();
    await replayWithReason(page, 'Warranty check');
    await expect(page.getByTestId('chain-pill')).toHaveText(/Verified/);
    await expect.poll(() => page.getByTestId('live-video').or(page.getByTestId('replay-video')).count()).toBe(1);
    const video = page.getByTestId('replay-video');
    await expect.poll(() => frameNumber(video)).not.toBeNull();

    // Frame step: exactly the next picture of the archive's list, and back to this very one.
    const at = (await frameNumber(video))!;
    const here = (await recorded(page))!;
    await page.keyboard.press('.');
    const next = await eventually(async () => {
      const now = await recorded(page);
      return now && now.start !== here.start && now.settled ? now : null;
    });
    expect(next.start).toBeCloseTo(here.next, 6);
    await expect.poll(() => frameNumber(video)).not.toBe(at);
    await page.keyboard.press(',');
    await expect.poll(async () => (await recorded(page))!.start).toBeCloseTo(here.start, 6);
    await expect.poll(() => frameNumber(video)).toBe(at);

    // Play: picture and both voices.
    await page.getByRole('button', { name: 'Play', exact: true }).click();
    await expect.poll(() => frameNumber(video)).not.toBe(at);
    await expect.poll(() => hears(page), 'the voices are heard').toBe(true);
    await page.getByRole('button', { name: 'Pause', exact: true }).click();

    // Seek by click, link to a moment.
    const timeline = (await page.getByTestId('timeline').boundingBox())!;
    const before = await page.getByTestId('playhead-time').textContent();
    await page.mouse.click(timeline.x + timeline.width * 0.6, timeline.y + 12);
    await expect(page.getByTestId('playhead-time')).not.toHaveText(before ?? '');
    await look(page, 'replay');

    // The marks on their frame, chat, receipts, consent, all on the one list.
    const list = page.getByRole('complementary').or(page.getByRole('list'));
    for (const words of [/Instruction by/, /Pump is off and locked out/, /Done/, /may be recorded/])
      await expect(list.getByText(words).first()).toBeVisible();
    await list.getByText(/Instruction by/).first().click();
    await expect(page.locator('[data-mark]').first()).toBeVisible();
    await look(page, 'replay-instruction');

    bundle = await download(page, 'Warranty file', programs.folder);
  });

  await test.step('a link leads to its moment', async () => {
    const page = people.get('manager')!;
    const link = new URL(page.url());
    link.searchParams.set('t', '3.2');
    await page.goto(link.href);
    // A page that was loaded anew asks for a reason again, once the log is there.
    await replayWithReason(page, 'Warranty check, again');
    await expect(page.getByTestId('playhead-time')).toHaveText(/00:03/);
  });

  await test.step('the verifier agrees, and names what one flipped byte changed', async () => {
    const verify = (...args: string[]) => spawnSync(join(binaries, 'lotse-verify'), args, { encoding: 'utf8' });
    const good = verify(bundle);
    expect(good.stdout).toMatch(/^CONSISTENT/);
    expect(good.status).toBe(0);
    const ours = verify(bundle, '--org-key', String(programs.server.ready['fingerprint']));
    expect(ours.stdout).toMatch(/^AUTHENTIC/);

    const bytes = readFileSync(bundle);
    const item = execFileSync('tar', ['tvf', bundle], { encoding: 'utf8' })
      .split('\n')
      .find((l) => /items\/.*\.webm/.test(l))!
      .match(/items\/([0-9a-f]{64})/)![1]!;
    // The item's own tar header stands on a block border; the list of files names it earlier.
    let header = bytes.indexOf(`items/${item}`);
    while (header % 512 !== 0) header = bytes.indexOf(`items/${item}`, header + 1);
    const at = header + 512 + 200;
    bytes[at] = bytes[at]! ^ 1;
    const bad = join(programs.folder, 'flipped.tar');
    writeFileSync(bad, bytes);
    const found = verify(bad);
    expect(found.status).not.toBe(0);
    expect(found.stdout + found.stderr).toContain(item.slice(0, 12));
  });

  await test.step('those recorded can see who looked, and why', async () => {
    await expert.goto(`${programs.url}/cases`);
    await expert.getByRole('link', { name: /Mechanical seal leaks/ }).first().click();
    await expect(expert.getByText('Warranty check').first()).toBeVisible();
    await expect(expert.getByText(/Ines Lehner/).first()).toBeVisible();
    await look(expert, 'case');
  });

  expect(foreign, 'requests of pages to foreign hosts').toEqual([]);
  expect(faults, 'errors in the consoles').toEqual([]);
});

const people = new Map<string, Page>();

/** A browser of somebody's own. */
async function pageFor(who: string): Promise<Page> {
  const page = await newPage(browser);
  page.context().on('request', (request) => {
    const url = new URL(request.url());
    if (/^(https?|wss?):$/.test(url.protocol) && url.hostname !== '127.0.0.1') foreign.push(request.url());
  });
  page.on('console', (m) => {
    // Before login the page asks who it is, and Chromium calls the answer "nobody yet" an error. It also says so of a
    // picture that was on its way to a page when that was left: nobody had it yet who could have closed it.
    const known = /\b401\b|VideoFrame was garbage collected/;
    if (m.type() === 'error' && !known.test(m.text())) faults.push(`${who}: ${m.text()}`);
  });
  page.on('pageerror', (e) => faults.push(`${who}: ${e.message}`));
  people.set(who, page);
  return page;
}

/** Somebody who has logged in as one of the demo accounts. */
async function person(user: string): Promise<Page> {
  const page = await pageFor(user);
  await logIn(page, programs, user);
  return page;
}

/** Where a replay stands in the archive's list of frames: start of the picture shown and of the next, seconds on the line. */
function recorded(page: Page): Promise<{ start: number; next: number; settled: boolean } | null> {
  return page.evaluate(() => {
    type Fact = { frame_start: number | null; next_frame_start: number | null; seeking: boolean };
    const fact = (window as unknown as { lotse: { replay(): Fact | null } }).lotse.replay();
    if (!fact || fact.frame_start === null || fact.next_frame_start === null) return null;
    return { start: fact.frame_start, next: fact.next_frame_start, settled: !fact.seeking };
  });
}

function videoWidth(page: Page): Promise<number> {
  return page.evaluate(() => document.querySelector<HTMLVideoElement>('[data-testid=live-video]')?.videoWidth ?? 0);
}

/** Root mean square of the loudest tenth of a second. */
function loudness(samples: Float32Array): number {
  let best = 0;
  for (let i = 0; i + 4800 <= samples.length; i += 4800) {
    const sum = samples.subarray(i, i + 4800).reduce((s, x) => s + x * x, 0);
    best = Math.max(best, Math.sqrt(sum / 4800));
  }
  return best;
}

/** The case a page shows. */
function caseOf(page: Page): string {
  return new URL(page.url()).pathname.split('/')[2] ?? '';
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
