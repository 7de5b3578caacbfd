/**
 * A foreign camera and a foreign viewer in an expert's live page: who they are, whose picture is on the stage, and that marks on a
 * picture without a display go to the technician, while the pointer stays off the technician's own picture.
 *
 * Elsewhere: WHIP and WHEP themselves (`tests/tests/gateways.rs`), the clients (`tests/gateways`).
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { type Browser, type Page, expect, test } from '@playwright/test';

import { draw, openBrowser, takeCall } from './people.ts';
import { frameNumber } from './pictures.ts';
import { Programs, root } from './programs.ts';
import { found, out, pageOf, take } from './shots.ts';

/** A foreign program starts Python, GStreamer and its codecs on a busy machine. */
const LONG = { timeout: 90_000 };
/** Without the workshop clip's numbers: whoever reads none sees the foreign camera. */
const bikes = join(root, '.tools/footage/bikes-voice.mp4');

let programs: Programs;
let browser: Browser;
const foreign: ChildProcessWithoutNullStreams[] = [];

test.beforeAll(async () => {
  mkdirSync(out, { recursive: true });
  programs = await Programs.start(['helmet-1']);
  browser = await openBrowser();
});

test.afterAll(async () => {
  for (const child of foreign) child.kill('SIGKILL');
  await browser?.close();
  await programs?.stop();
});

/** GStreamer with a token of its own; what it has said so far. */
function gstreamer(page: Page, verb: 'publish' | 'watch', name: string): { said: string[]; stop: () => void } {
  const id = /[0-9a-f-]{36}/.exec(page.url())![0];
  const { address, token } = JSON.parse(programs.admin(['issue-token', '--case', id, '--verb', verb, '--name', name])) as { address: string; token: string };
  const child = spawn('/usr/bin/python3', [join(root, 'tests/gateways/gst_client.py'), verb, address, token, bikes], {
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' },
  });
  foreign.push(child);
  const said: string[] = [];
  child.stdout.on('data', (data: Buffer) => said.push(data.toString()));
  child.stderr.pipe(process.stderr);
  return { said, stop: () => child.stdin.write('stop\n') };
}

test('a foreign camera and a foreign viewer in a call', async () => {
  const glasses = programs.glasses[0]!;
  const page = await pageOf(browser, programs, 'expert');
  await takeCall(page, 'Mechanical seal leaks');
  await expect.poll(async () => (await glasses.state())['screen']).toBe('consent');
  await glasses.say('YES_RECORD');
  const video = page.getByTestId('live-video');
  await expect.poll(() => frameNumber(video)).not.toBeNull();
  const row = (name: string) => page.getByRole('region', { name: /People|Beteiligte/ }).getByRole('listitem').filter({ hasText: name });
  const screens = () => glasses.shown().map((p) => p.screen);

  const camera = gstreamer(page, 'publish', 'Hall camera 3');
  await test.step('the roster names it, and that it is foreign; my picture stays', async () => {
    await expect(row('Hall camera 3')).toContainText('Foreign client · brings a picture or a voice', LONG);
    await expect(page.getByText('Foreign client Hall camera 3 joins')).toBeVisible();
    await expect(row('Hall camera 3').getByRole('button', { name: 'Show picture' })).toBeVisible(LONG);
    await expect(video).toHaveAccessibleName('Live picture: Mara Krüger');
    expect(await frameNumber(video)).not.toBeNull();
  });

  await test.step('a foreign viewer is announced before it sees anything', async () => {
    const viewer = gstreamer(page, 'watch', 'Control room');
    await expect(page.getByText('Now watching too: Control room')).toBeVisible(LONG);
    await expect(row('Control room')).toContainText('Foreign client · sees and hears', LONG);
    await expect.poll(() => viewer.said.some((line) => line.includes('"picture": ')), LONG).toBe(true);
  });

  await test.step('its picture comes on the stage, with its name', async () => {
    await row('Hall camera 3').getByRole('button', { name: 'Show picture' }).click();
    await expect(video).toHaveAccessibleName('Live picture: Hall camera 3');
    await expect(page.getByText('640×272')).toBeVisible(LONG);
    expect(await frameNumber(video)).toBeNull();
    await expect(page.getByText('Hall camera 3 has no display. Marks on its picture go to Mara Krüger as a still picture.')).toBeVisible();
    await expect(page.getByText('Now watching too')).toHaveCount(0);
    await take(page, 'gateways-live');
  });

  await test.step('the pointer on it does not point at the technician’s own picture', async () => {
    await page.keyboard.press('l');
    const point = async () => {
      const box = (await page.getByTestId('board').boundingBox())!;
      for (const x of [0.4, 0.5, 0.6]) await page.mouse.move(box.x + box.width * x, box.y + box.height / 2, { steps: 5 });
    };
    await point();
    await row('Mara').getByRole('button', { name: 'Show picture' }).click();
    await expect(video).toHaveAccessibleName('Live picture: Mara Krüger');
    await expect.poll(() => frameNumber(video)).not.toBeNull();
    expect(screens()).not.toContain('pointing');
    await expect
      .poll(async () => {
        await point();
        return screens().includes('pointing');
      })
      .toBe(true);
  });

  await test.step('marks on its picture are shown to the technician as a still', async () => {
    await row('Hall camera 3').getByRole('button', { name: 'Show picture' }).click();
    await expect(page.getByText('640×272')).toBeVisible();
    await page.keyboard.press('a');
    await draw(page, [[0.3, 0.4], [0.5, 0.5]]);
    await expect(page.getByTestId('board').locator('[data-mark]')).toHaveCount(1);
    await expect(page.getByText(/Hall camera 3 has no display/)).toBeVisible();
    await take(page, 'gateways-frozen');
    await page.keyboard.press('Enter');
    await expect(page.getByTestId('receipt-state').first()).toHaveText(/Shown|Seen/);
    const shown = glasses.shown().findLast((p) => p.screen === 'instruction')!;
    expect(shown['picture']).toBe('snapshot');
    await expect(page.getByTestId('frozen-picture')).toBeHidden();
  });

  await test.step('both are still there, and the camera’s clip has gone round by now', async () => {
    await expect(row('Control room')).toContainText('sees and hears');
    await expect(row('Hall camera 3')).toContainText('brings a picture or a voice');
    await expect(page.getByText(/^Connection to .* lost/)).toHaveCount(0);
  });

  await test.step('it goes: the roster says so, and the stage is the technician’s again', async () => {
    camera.stop();
    await expect(row('Hall camera 3')).toHaveCount(0, LONG);
    await expect(video).toHaveAccessibleName('Live picture: Mara Krüger');
    await expect.poll(() => frameNumber(video)).not.toBeNull();
    await expect(page.getByText(/has no display/)).toHaveCount(0);
  });

  expect([...new Set(found)]).toEqual([]);
});
