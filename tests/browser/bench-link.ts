/**
 * Bad links under real programs and a real Chromium: `npx playwright test --config bench.config.ts bench-link`; `make bench` runs it too.
 *
 * Owns: what the links do when, and the watch in the page. Writes tests/out/bench/link.json. Never: asserts a figure.
 * Elsewhere: the page of figures (`tests/bench/link.mjs`), what a link's words mean (`tests/src/network/weather.rs`).
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { type Page, expect, test } from '@playwright/test';

import { type Machine, machine } from './bench/usage.ts';
import { logIn, newPage, openBrowser, takeCall } from './people.ts';
import { frameNumber } from './pictures.ts';
import { type Link, Programs, root } from './programs.ts';

/** Of each row of losses, seconds; before it, for what the row before left behind. */
const SECONDS = Number(process.env['LOTSE_BENCH_LINK_SECONDS'] ?? 60);
const SETTLE_MS = 10_000;
const RTT = 'delay=25';
const LOSSES = [RTT, `loss=15 ${RTT}`, `loss=15 burst=5 ${RTT}`, `loss=30 ${RTT}`, `loss=30 burst=5 ${RTT}`];
/** The session of a changing link: how it is, for how long. */
const NARROW_S = 20;
const WIDE_S = 30;
const SEED = 1;
const out = join(root, 'tests/out/bench');

type Sums = { decoded: number; freezes: number; frozen: number; nacks: number; keys: number; concealed: number; silent: number; samples: number };
type Look = Window & { looked: { peers: RTCPeerConnection[]; painted: number[]; bytes: [number, number][] } };

test('bad links', async () => {
  mkdirSync(out, { recursive: true });
  const rows = await losses();
  const changes = await changing();
  const result = { at: new Date().toISOString().slice(0, 16).replace('T', ' '), seconds: SECONDS, seed: SEED, rows, changes };
  console.log(JSON.stringify(result));
  writeFileSync(join(out, 'link.json'), JSON.stringify(result, null, 1));
});

/** Both hops behind a link each; the losses on one, then on the other, both ways of it. */
async function losses() {
  return inCall({}, async (page, glasses, expert) => {
    const rows = [];
    for (const [hop, link] of [['glasses', glasses], ['expert', expert]] as const) {
      for (const words of LOSSES) {
        link.set(words);
        await page.waitForTimeout(SETTLE_MS);
        const begun = await sums(page);
        const [from, before] = [performance.now(), machine()];
        await page.waitForTimeout(SECONDS * 1_000);
        const ended = await sums(page);
        const seconds = (performance.now() - from) / 1_000;
        rows.push({ hop, words, seconds, taken: taken(before, machine()), ...less(ended, begun) });
        console.log(JSON.stringify(rows.at(-1)));
        link.set(RTT);
      }
      link.set('direct');
    }
    return rows;
  });
}

/** The glasses' link: 2 Mbit/s, 300 kbit/s, 2 Mbit/s, then another address. */
async function changing() {
  return inCall({}, async (page, glasses) => {
    const steps = [];
    for (const [words, seconds] of [
      [`rate=2000 ${RTT}`, WIDE_S],
      [`rate=300 ${RTT}`, NARROW_S],
      [`rate=2000 ${RTT}`, WIDE_S],
      [`rate=2000 move ${RTT}`, WIDE_S],
    ] as const) {
      const at = await page.evaluate(() => performance.now());
      const before = machine();
      glasses.set(words);
      await page.waitForTimeout(seconds * 1_000);
      const { painted, bytes } = await page.evaluate((from) => {
        const { painted, bytes } = (window as unknown as Look).looked;
        return { painted: painted.filter((t) => t >= from), bytes: bytes.filter(([t]) => t >= from) };
      }, at);
      steps.push({ words, seconds, taken: taken(before, machine()), painted: painted.map((t) => t - at), bytes: bytes.map(([t, n]) => [t - at, n]) });
    }
    return steps;
  });
}

async function inCall<T>(env: Record<string, string>, what: (page: Page, glasses: Link, expert: Link) => Promise<T>): Promise<T> {
  const programs = await Programs.start(['helmet-1'], env, true);
  const browser = await openBrowser();
  try {
    const glasses = programs.glasses[0]!;
    const expert = await programs.link('expert', SEED + 1);
    const page = await newPage(browser);
    await page.addInitScript(look);
    await logIn(page, { url: expert.url, account: (user) => programs.account(user) }, 'expert');
    await takeCall(page, 'Mechanical seal leaks');
    await expect.poll(async () => (await glasses.state())['screen']).toBe('consent');
    await glasses.say('YES_RECORD');
    await expect.poll(() => frameNumber(page.getByTestId('live-video'))).not.toBeNull();
    await page.waitForTimeout(SETTLE_MS);
    return await what(page, programs.links['helmet-1']!, expert);
  } finally {
    await browser.close();
    await programs.stop();
  }
}

/** Runs in the page: keeps its connections, when pictures were handed to the screen, and how many bytes of them had come by then. */
function look(): void {
  const looked: Look['looked'] = { peers: [], painted: [], bytes: [] };
  Object.assign(window, { looked });
  const Own = RTCPeerConnection;
  window.RTCPeerConnection = class extends Own {
    constructor(...settings: ConstructorParameters<typeof Own>) {
      super(...settings);
      looked.peers.push(this);
    }
  };
  let watched: Element | null = null;
  setInterval(() => {
    const video = document.querySelector<HTMLVideoElement>('[data-testid=live-video]');
    if (!video || video === watched) return;
    watched = video;
    const next = (now: number) => {
      looked.painted.push(now);
      video.requestVideoFrameCallback(next);
    };
    video.requestVideoFrameCallback(next);
  }, 100);
  setInterval(async () => {
    let bytes = 0;
    for (const peer of looked.peers)
      for (const s of (await peer.getStats()).values()) if (s.type === 'inbound-rtp' && s.kind === 'video') bytes += s.bytesReceived;
    looked.bytes.push([performance.now(), bytes]);
  }, 500);
}

/** Of all connections of the page so far. */
function sums(page: Page): Promise<Sums> {
  return page.evaluate(async () => {
    const sums = { decoded: 0, freezes: 0, frozen: 0, nacks: 0, keys: 0, concealed: 0, silent: 0, samples: 0 };
    for (const peer of (window as unknown as Look).looked.peers) {
      for (const s of (await peer.getStats()).values()) {
        if (s.type !== 'inbound-rtp') continue;
        if (s.kind === 'video') {
          sums.decoded += s.framesDecoded ?? 0;
          sums.freezes += s.freezeCount ?? 0;
          sums.frozen += s.totalFreezesDuration ?? 0;
          sums.nacks += s.nackCount ?? 0;
          sums.keys += s.keyFramesDecoded ?? 0;
        } else {
          sums.concealed += s.concealedSamples ?? 0;
          sums.silent += s.silentConcealedSamples ?? 0;
          sums.samples += s.totalSamplesReceived ?? 0;
        }
      }
    }
    return sums;
  });
}

/** Part of the processors that the machine's host kept for others, 0 to 1. */
function taken(before: Machine, after: Machine): number {
  const [work, idle, others] = [after.work_s - before.work_s, after.idle_s - before.idle_s, after.taken_s - before.taken_s];
  return others / (work + idle + others);
}

const less = (a: Sums, b: Sums) => Object.fromEntries(Object.entries(a).map(([key, n]) => [key, n - b[key as keyof Sums]])) as Sums;
