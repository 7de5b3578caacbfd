/**
 * One call through a real network, by one way: taken on a real page, its picture seen, a mark sent and answered, recorded where the
 * archivist is, and proven.
 *
 * Owns: what the people do and see. Elsewhere: the networks, the programs in them and what their logs must say (`beyond.sh`).
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { type Page, expect, test } from '@playwright/test';

import { download, draw, endSession, logIn, newPage, openBrowser, replayWithReason, takeCall } from './people.ts';
import { frameNumber } from './pictures.ts';
import { Worn, binaries, root } from './programs.ts';

/** What `beyond.sh` says. */
function told(name: 'WAY' | 'URL' | 'RELAY' | 'FOLDER' | 'PIN'): string {
  const value = process.env[`BEYOND_${name}`];
  if (!value) throw new Error('this runs in the networks that beyond.sh makes');
  return value;
}

const way = told('WAY');
const url = told('URL');
const pictures = join(root, 'tests/out/beyond');
const place = { url, account: (user: string) => ({ user, name: user, password: process.env['LOTSE_NEW_PASSWORD'] ?? '' }) };
const glasses = new Worn(told('FOLDER'));

test(`a call by ${way}`, async () => {
  mkdirSync(pictures, { recursive: true });
  const pin = Buffer.from(told('PIN'), 'base64url').toString('base64');
  // Of all authorities that the system does not know, the server's own is believed.
  const browser = await openBrowser([`--ignore-certificate-errors-spki-list=${pin}`], [new URL(url).hostname, told('RELAY')]);
  try {
    const expert = await newPage(browser);
    await noteConnections(expert);
    await logIn(expert, place, 'expert');
    await takeCall(expert, `Seal leaks, seen by ${way}`);
    await expect.poll(() => glasses.shown().at(-1)?.screen).toBe('consent');
    await glasses.say('YES_RECORD');

    const live = expert.getByTestId('live-video');
    await expect.poll(() => frameNumber(live), 'a picture').not.toBeNull();
    const first = await frameNumber(live);
    await expect.poll(() => frameNumber(live), 'and another').not.toBe(first);
    await expect(expert.getByTestId('recording-pill')).toHaveText(/Recording \d/);
    await expect.poll(() => waysOf(expert), 'the way of the media').toEqual([way]);

    await expert.keyboard.press('p');
    await draw(expert, [[0.35, 0.45], [0.45, 0.4], [0.55, 0.5], [0.45, 0.62], [0.35, 0.45]]);
    await expert.keyboard.press('v');
    await expert.keyboard.press('Enter');
    const receipt = expert.getByTestId('receipt-state').first();
    await expect.poll(() => glasses.shown().at(-1)?.screen, 'the mark in the glasses').toBe('instruction');
    await expect(receipt).toHaveText(/Seen/);
    writeFileSync(join(pictures, `hud-${way}.png`), glasses.picture());
    await glasses.say('DONE');
    await expect(receipt).toHaveText(/Done/);
    await expert.screenshot({ path: join(pictures, `expert-${way}.png`) });
    expect(await waysOf(expert), 'still the same way').toEqual([way]);
    await endSession(expert, 'Solved');

    const manager = await newPage(browser);
    await logIn(manager, place, 'manager');
    await manager.getByRole('link', { name: `Seal leaks, seen by ${way}` }).first().click();
    await replayWithReason(manager, 'What came over the network');
    await expect.poll(() => frameNumber(manager.getByTestId('replay-video')), 'the recorded picture').not.toBeNull();
    await manager.screenshot({ path: join(pictures, `replay-${way}.png`) });
    const bundle = await download(manager, 'Proof', told('FOLDER'));
    const verdict = spawnSync(join(binaries, 'lotse-verify'), [bundle], { encoding: 'utf8' });
    expect(verdict.stdout + verdict.stderr).toMatch(/^CONSISTENT/);
    expect(spawnSync('tar', ['tf', bundle], { encoding: 'utf8' }).stdout).toMatch(/\.webm/);
  } finally {
    await browser.close();
  }
});

/** From now on every connection for media that the page opens can be asked. */
async function noteConnections(page: Page): Promise<void> {
  await page.addInitScript(() => {
    const made: RTCPeerConnection[] = [];
    Object.assign(window, { made });
    window.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(configuration?: RTCConfiguration) {
        super(configuration);
        made.push(this);
      }
    };
  });
}

/** By which ways the page's connected connections get their media: `udp`, `tcp` or `relay`. */
function waysOf(page: Page): Promise<string[]> {
  return page.evaluate(async () => {
    const found: string[] = [];
    for (const connection of (window as unknown as { made: RTCPeerConnection[] }).made) {
      if (connection.connectionState !== 'connected') continue;
      const all = await connection.getStats();
      for (const pair of all.values()) {
        if (pair.type !== 'candidate-pair' || !pair.nominated || pair.state !== 'succeeded') continue;
        const own = all.get(pair.localCandidateId);
        found.push(own.candidateType === 'relay' ? 'relay' : own.protocol);
      }
    }
    return found;
  });
}
