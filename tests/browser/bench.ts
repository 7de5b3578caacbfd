/**
 * One recorded session with the real programs and a real Chromium, measured: `make bench`, or
 * `LOTSE_BENCH_MINUTES=2 npx playwright test --config bench.config.ts` to try it.
 *
 * Owns: what happens when. Writes what was watched, then the figures, into tests/out/session; `--grep figures` computes
 * them once more. Never: asserts a figure. Elsewhere: watching and computing (`bench/`), the page (`tests/bench.mjs`).
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';

import { type Browser, type Page, expect, test } from '@playwright/test';

import { Archive } from './bench/archive.ts';
import { type Join, type Mark, type Watched, figures } from './bench/figures.ts';
import { answer, penDown, person, replay } from './bench/people.ts';
import { type Seek, seeker } from './bench/seek.ts';
import { type Machine, type Usage, machine, usageOf } from './bench/usage.ts';
import { Watch, numberOn } from './bench/watch.ts';
import { download, endSession, openBrowser, takeCall } from './people.ts';
import { Programs, binaries, root } from './programs.ts';

const minutes = Number(process.env['LOTSE_BENCH_MINUTES'] ?? 30);
/** As many as a session of 30 minutes has; a short one has fewer, unless it is told otherwise. */
const MARKS = Number(process.env['LOTSE_BENCH_MARKS'] ?? Math.min(200, Math.floor(minutes * 10)));
const JOINS = Number(process.env['LOTSE_BENCH_JOINS'] ?? Math.min(20, Math.max(2, Math.floor(minutes * 0.7))));
const SEEKS = Number(process.env['LOTSE_BENCH_SEEKS'] ?? Math.min(100, Math.floor(minutes * 10)));
/** How far the quartz of the glasses is off, parts in a million. */
const PPM = Number(process.env['LOTSE_BENCH_PPM'] ?? 0);
/** The second expert stays and talks, instead of coming and going: with the first one three voices. */
const TALKS = process.env['LOTSE_BENCH_TALKS'] === '1';
/** A person looks at the picture before the next click. */
const LOOKS_MS = 300;
/** The page keeps 300 pictures, 12 s. */
const COLLECT_MS = 4_000;
const TITLE = 'Mechanical seal leaks';
const out = join(root, 'tests/out/session');
const watchedFile = join(out, 'watched.json');

let programs: Programs;
let browser: Browser;

test.describe.configure({ mode: 'serial' });

test(`a session of ${minutes} min`, async () => {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  // Pages of its own: nobody builds them anew under a running session.
  const pages = join(out, 'pages');
  cpSync(join(root, 'web-expert/dist'), pages, { recursive: true });
  process.env['LOTSE_PAGES'] = pages;
  const clock = { LD_PRELOAD: join(binaries, 'liblotse_faults.so'), LOTSE_CLOCK_PPM: String(PPM) };
  programs = await Programs.start(['helmet-1'], PPM ? clock : {});
  try {
    browser = await openBrowser(TALKS ? [`--use-file-for-fake-audio-capture=${speech()}`] : []);
    const watched = await session();
    // Kept before anything else can fail.
    writeFileSync(watchedFile, JSON.stringify(watched));
    watched.seeks = await seekAndDownload();
    writeFileSync(watchedFile, JSON.stringify(watched));
  } finally {
    await browser?.close();
    await programs.stop();
  }
});

test('figures', () => {
  const watched = JSON.parse(readFileSync(watchedFile, 'utf8')) as Watched;
  const unpacked = join(out, 'bundle');
  const found = figures(watched, new Archive(join(out, 'case.tar'), unpacked), out);
  writeFileSync(join(out, 'raw.json'), JSON.stringify(found.raw, null, 1));
  writeFileSync(join(out, 'figures.json'), JSON.stringify(found.figures, null, 1));
  rmSync(unpacked, { recursive: true });
});

async function session(): Promise<Watched> {
  const load = loadavg()[0]!;
  const glasses = programs.glasses[0]!;
  const random = seeded(7);
  let watch!: Watch;
  const expert = await person(browser, programs, 'expert', async (page) => {
    watch = await Watch.on(page);
  });
  await takeCall(expert, TITLE);
  await expect.poll(async () => (await glasses.state())['screen']).toBe('consent');
  await glasses.say('YES_RECORD');
  await expect.poll(() => numberOn(expert.getByTestId('live-video')).catch(() => null)).not.toBeNull();
  await recording(expert);
  await watch.listen();
  await expert.keyboard.press('p');
  const live = expert.url();
  const second = await person(browser, programs, 'expert2', async (page) => {
    await Watch.on(page);
  });

  if (TALKS) {
    await second.goto(live);
    await answer(second).click();
    await expect.poll(() => numberOn(second.getByTestId('live-video')).catch(() => null)).not.toBeNull();
    await recording(expert);
  }
  const marks: Mark[] = [];
  const joins: Join[] = [];
  const offsets: number[] = [];
  const usage: Record<string, Usage>[] = [];
  const processors: Machine[] = [machine()];
  const failed: string[] = [];
  const length = minutes * 60_000;
  const evenly = (n: number, what: () => Promise<unknown>) =>
    Array.from({ length: n }, (_, i) => ({ at: 5_000 + ((length - 15_000) * (i + 0.5)) / n, what }));
  const plan = [
    ...evenly(MARKS, async () => marks.push(await mark(expert, watch, marks, random))),
    ...evenly(TALKS ? 0 : JOINS, async () => {
      joins.push(await join2(second, live));
      await recording(expert);
    }),
    ...evenly(Math.floor(length / COLLECT_MS), () => watch.collect()),
    ...evenly(Math.max(2, Math.floor(minutes)), async () => {
      offsets.push(Number((await glasses.state())['clock_offset_us']) / 1000);
      usage.push(used());
      processors.push(machine());
    }),
  ].sort((a, b) => a.at - b.at);
  const began = performance.now();
  for (const { at, what } of plan) {
    await new Promise((done) => setTimeout(done, began + at - performance.now()));
    // One that fails is told as such; the session goes on.
    await what().catch(async (e: Error) => {
      failed.push(e.message.split('\n')[0]!);
      console.log(e.message);
      // Back to live, with the pen: Escape in live takes the other tool.
      if (await expert.getByTestId('frozen-picture').isVisible()) await expert.keyboard.press('Escape');
      await expert.keyboard.press('p');
    });
  }
  await new Promise((done) => setTimeout(done, began + length - performance.now()));
  await watch.collect();
  const stats = await watch.stats();
  const frames = (await glasses.state())['frames'] as Watched['frames'];
  const lasted_s = (performance.now() - began) / 1000;
  await endSession(expert, 'Solved');
  await expect.poll(async () => (await glasses.state())['session']).toBeNull();
  await glasses.program.stop();
  await expert.context().close();
  await second.context().close();
  return {
    at: new Date().toISOString().slice(0, 16).replace('T', ' '),
    lasted_s,
    ppm: PPM,
    load: [load, loadavg()[1]!],
    frames,
    stats,
    usage,
    processors,
    offsets,
    failed,
    marks,
    joins,
    seeks: [],
    main: watch.track('main'),
    voice: watch.track('voice'),
    painted: [...watch.painted],
    heard: watch.heard,
    latency_ms: watch.latency_ms,
    clocks: watch.clocks,
  };
}

async function seekAndDownload(): Promise<Seek[]> {
  const random = seeded(11);
  const manager = await person(browser, programs, 'manager', async (page) => {
    await Watch.on(page);
  });
  await replay(manager, new RegExp(TITLE), 'Figures');
  await expect.poll(() => numberOn(manager.getByTestId('replay-video')).catch(() => null), { timeout: 120_000 }).not.toBeNull();
  const seek = await seeker(manager);
  const seeks: Seek[] = [];
  while (seeks.length < SEEKS) {
    const sought = await seek(random());
    if (sought.rtp !== null) seeks.push(sought);
    await manager.waitForTimeout(LOOKS_MS);
  }
  copyFileSync(await download(manager, 'Figures', programs.folder), join(out, 'case.tar'));
  await manager.context().close();
  return seeks;
}

/** Pen down, a stroke, Enter; ends when the glasses show it and the technician has said DONE. */
async function mark(expert: Page, watch: Watch, before: readonly Mark[], random: () => number): Promise<Mark> {
  const glasses = programs.glasses[0]!;
  const anywhere = (): [number, number] => [0.25 + 0.5 * random(), 0.15 + 0.5 * random()];
  const pen = await penDown(expert, anywhere());
  const still = expert.getByTestId('frozen-picture');
  await expect(still).toBeVisible();
  let frozen: number | null = null;
  await expect.poll(async () => (frozen = await numberOn(still))).not.toBeNull();
  await pen.lineTo(anywhere());
  await expert.keyboard.press('Enter');
  const known = new Set(before.map((m) => m.instruction));
  const line = () => glasses.shown().find((p) => p.screen === 'instruction' && !known.has(String(p['instruction'])));
  await expect.poll(line, { intervals: [100] }).toBeDefined();
  const { instruction, at_us, file } = line()! as unknown as { instruction: string; at_us: number; file: string };
  // The glasses keep the newest 400 only.
  const copy = `${String(before.length).padStart(3, '0')}.png`;
  copyFileSync(join(glasses.folder, 'hud', file), join(out, copy));
  await glasses.say('DONE');
  return { instruction, frozen, file: copy, enter_ms: await watch.pressed(), shown_ms: at_us / 1000 };
}

/** Opens the running session's page anew, answers at once, waits for a picture, leaves. */
async function join2(page: Page, live: string): Promise<Join> {
  const from_ms = Date.now();
  await page.goto(live);
  // In the page's own time, which begins with the navigation.
  const open_ms = await (
    await page.waitForFunction(
      () => [...document.querySelectorAll('[role=dialog] button')].some((b) => /Take and record|Back to the call/.test(b.textContent ?? '')) && performance.now(),
      undefined,
      { polling: 'raf' },
    )
  ).jsonValue();
  await page.evaluate(() => addEventListener('click', (e) => Object.assign(window, { joined: performance.timeOrigin + e.timeStamp }), { capture: true, once: true }));
  await answer(page).click();
  const first = await page.waitForFunction(
    () => {
      const { lotse, joined } = window as unknown as { lotse: { painted(): [number, number][]; clock_offset_us(): number }; joined: number };
      const painted = lotse.painted()[0];
      return painted && { picture_ms: painted[1] - lotse.clock_offset_us() / 1000 - joined };
    },
    undefined,
    { timeout: 30_000 },
  );
  const { picture_ms } = (await first.jsonValue()) as { picture_ms: number };
  await page.waitForTimeout(1_000);
  await page.goto(`${programs.url}/cases`);
  return { open_ms: Number(open_ms), picture_ms, from_ms, until_ms: Date.now() };
}

/** What the experts say: words without a pause as long as the one before a clap, and never as loud. */
function speech(): string {
  const [words, file] = [join(out, 'words.wav'), join(out, 'speech.wav')];
  const text = 'Please open the valve slowly and tell me what the gauge shows, then close it again and wait until the pump has stopped. ';
  execFileSync('espeak-ng', ['-v', 'en-gb', '-s', '150', '-w', words, text.repeat(4)]);
  execFileSync('ffmpeg', ['-v', 'error', '-y', '-i', words, '-af', 'volume=0.15', '-ac', '1', '-ar', '48000', file]);
  return file;
}

const recording = (page: Page) => expect(page.getByTestId('recording-pill')).toHaveText(/Recording \d/);

/** Of each program, since its start. */
function used(): Record<string, Usage> {
  const all = { server: programs.server, archivist: programs.archivist, glasses: programs.glasses[0]!.program };
  return Object.fromEntries(Object.entries(all).map(([name, p]) => [name, usageOf(p.pid!)]));
}

/** mulberry32: the same numbers in every run. */
function seeded(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
