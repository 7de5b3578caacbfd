/**
 * From what was watched, and from the archive's own answer, to figures.
 *
 * Owns: the arithmetic of times. Never: measures, judges. Elsewhere: the page of figures (`tests/bench/session.mjs`).
 */
import { join } from 'node:path';

import { spec } from '../pictures.ts';
import { type Archive, numberOnDisplay } from './archive.ts';
import type { Seek } from './seek.ts';
import type { Machine, Usage } from './usage.ts';
import type { ClockSample, TrackInfo } from './watch.ts';

export type Mark = { instruction: string; frozen: number | null; file: string; enter_ms: number; shown_ms: number };
/** `from_ms` to `until_ms`: server UTC in which the second expert's page was opening, in the call, and closing. */
export type Join = { open_ms: number; picture_ms: number; from_ms: number; until_ms: number };

/** Everything that was seen of a session from outside the archive. */
export type Watched = {
  at: string;
  lasted_s: number;
  /** How far the glasses' quartz was off. */
  ppm: number;
  load: [before: number, five_minutes: number];
  frames: { captured: number; encoded: number };
  stats: Record<string, Record<string, number>>;
  usage: Record<string, Usage>[];
  processors: Machine[];
  offsets: number[];
  failed: string[];
  marks: Mark[];
  joins: Join[];
  seeks: Seek[];
  main: TrackInfo;
  voice: TrackInfo;
  painted: [rtp: number, at_ms: number][];
  heard: number[];
  latency_ms: number;
  clocks: ClockSample[];
};

type Spread = { n: number; min: number; p50: number; p95: number; max: number };

export function spread(values: readonly number[]): Spread | null {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  if (sorted.length === 0) return null;
  // The nearest rank: a value that was measured.
  const at = (part: number) => sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)]!;
  return { n: sorted.length, min: sorted[0]!, p50: at(0.5), p95: at(0.95), max: sorted.at(-1)! };
}

/** Medians of the six sixths of a session, in its order: a drift would show. */
function sixths(values: readonly number[]): (number | undefined)[] {
  return Array.from({ length: 6 }, (_, i) => spread(values.slice((i * values.length) / 6, ((i + 1) * values.length) / 6))?.p50);
}

/** Shares of the machine's processors in the six sixths of a session: work of this machine, and what its host gave to others. */
function shares(of: readonly Machine[]): { work: number; taken: number }[] {
  return Array.from({ length: 6 }, (_, i) => {
    const [a, b] = [i, i + 1].map((at) => of[Math.round((at * (of.length - 1)) / 6)]!) as [Machine, Machine];
    const [work, taken] = [b.work_s - a.work_s, b.taken_s - a.taken_s];
    const all = work + taken + b.idle_s - a.idle_s;
    return { work: work / all, taken: taken / all };
  });
}

/** Ticks a millisecond. */
const RATE: Record<string, number> = { main: 90, preview: 90, voice: 48 };
/** The Opus encoder looks ahead 312 samples at 48 kHz: a sound comes out of the decoder so much after its own RTP time. */
const OPUS_AHEAD_MS = 6.5;
/** A click is taken for a clap's own when it is heard within this, ms. */
const HEARD_WITHIN_MS = 2_000;
/** So long after its navigation a page still builds itself, ms. */
const SETTLES_MS = 2_000;
/** Rounds of the clip lose up to 40 ms between picture and sound before the glasses make it good. */
const CLAP_APART_MS = 100;

/** Server UTC of an RTP time of the glasses, ms. Their quartz is `ppm` off: the machine's own clock is the true one. */
function capturedAt(rtp: number, track: TrackInfo, ppm: number): number {
  const started = (track.start_us! + track.clock_offset_us) / 1000;
  return started + (rtp - track.rtp_base!) / RATE[track.source]! / (1 + ppm / 1e6);
}

/** The archive's clock samples hold what the glasses' sender reports claim for an RTP time; the announced mapping says it too. */
function mappingError(archive: Archive, track: TrackInfo): number[] {
  const own = archive.segments.filter((s) => s.info.track === track.track);
  return own.flatMap((s) => s.clock.filter((c) => c[1] > 0).map(([rtp, ntp_us]) => (ntp_us + track.clock_offset_us) / 1000 - capturedAt(rtp, track, 0)));
}

type Clap = { flash_ms: number; click_ms: number; seen_after_ms: number | null; heard_ms: number | null };

/** Every clap of the session: captured as light and as sound, how long after it the light was seen, when the sound was heard. */
function claps(watched: Watched, numbers: Map<number, number | null>, clicks: readonly number[]): Clap[] {
  const { main, voice, ppm } = watched;
  const captured = clicks.map((rtp) => capturedAt(rtp, voice, ppm) - OPUS_AHEAD_MS);
  const heard = watched.heard.map((at) => at + watched.latency_ms);
  const found: Clap[] = [];
  for (const [rtp, number] of numbers) {
    if (!spec.claps.some((c) => c.frame === number)) continue;
    const flash_ms = capturedAt(rtp, main, ppm);
    const click_ms = captured.find((c) => Math.abs(c - flash_ms) < CLAP_APART_MS);
    if (click_ms === undefined) continue;
    // A page that is short of time leaves pictures out; the flash stands in three.
    const flash = watched.painted.find(([painted]) => painted >= rtp && painted < rtp + spec.flash.frames * (90_000 / spec.fps));
    found.push({
      flash_ms,
      click_ms,
      seen_after_ms: flash === undefined ? null : flash[1] - capturedAt(flash[0], main, ppm),
      heard_ms: heard.find((h) => h > click_ms && h < click_ms + HEARD_WITHIN_MS) ?? null,
    });
  }
  return found;
}

/** `pictures`: where the display's pictures lie. */
export function figures(watched: Watched, archive: Archive, pictures: string): { figures: unknown; raw: unknown } {
  const { main, voice } = watched;
  const numbers = archive.numbers(main.track);
  const committed = new Map(archive.instructions.map((i) => [i.id, i]));
  const marks = watched.marks.map((m) => {
    const i = committed.get(m.instruction);
    const archived = i ? (numbers.get(i.frame.rtp) ?? null) : null;
    return { ...m, rtp: i?.frame.rtp, confidence: i?.confidence, archived, displayed: numberOnDisplay(join(pictures, m.file)) };
  });
  const seeks = watched.seeks.map((s) => ({ ...s, archived: numbers.get(s.rtp ?? -1) ?? null }));
  const all = claps(watched, numbers, archive.clicks(voice.track));
  const heard = all.filter((c) => c.heard_ms !== null);
  const skews = heard.map((c) => (c.seen_after_ms ?? NaN) - (c.heard_ms! - c.click_ms));
  const painted = watched.painted.map(([rtp, at]) => at - capturedAt(rtp, main, watched.ppm));
  // The same once more without what fell into a join: its page shares the two cores with whoever is in the call.
  const alone = (at_ms: number) => !watched.joins.some((j) => at_ms >= j.from_ms && at_ms < j.until_ms + SETTLES_MS);
  const heardAlone = heard.map((c) => alone(c.heard_ms!));
  return {
    raw: { marks, seeks, claps: all, joins: watched.joins, failed: watched.failed, gaps: archive.gaps, painted, usage: watched.usage },
    figures: {
      at: watched.at,
      minutes: watched.lasted_s / 60,
      load: watched.load,
      failed: watched.failed.length,
      frames: watched.frames,
      recorded: numbers.size,
      segments: archive.segments.length,
      browser: watched.stats,
      usage: Array.from({ length: 7 }, (_, i) => watched.usage[Math.round((i / 6) * (watched.usage.length - 1))]!),
      shares: shares(watched.processors),
      ppm: watched.ppm,
      clock: {
        page_error: spread(watched.clocks.map((c) => c.offset_ms - c.wall_ms)),
        glasses_error: spread(watched.offsets),
        announced: main.clock_offset_us / 1000,
        mapping: spread([...mappingError(archive, main), ...mappingError(archive, voice)]),
      },
      glass_to_glass: spread(painted),
      alone: {
        glass_to_glass: spread(painted.filter((_, i) => alone(watched.painted[i]![1]))),
        enter_to_present: spread(marks.filter((m) => alone(m.shown_ms)).map((m) => m.shown_ms - m.enter_ms)),
        mouth_to_ear: spread(heard.filter((_, i) => heardAlone[i]).map((c) => c.heard_ms! - c.click_ms)),
        skew: spread(skews.filter((_, i) => heardAlone[i])),
      },
      glass_to_glass_parts: sixths(painted),
      enter_to_present: spread(marks.map((m) => m.shown_ms - m.enter_ms)),
      marks: {
        n: marks.length,
        exact: marks.filter((m) => m.confidence === 'exact').length,
        archive: marks.filter((m) => m.frozen !== null && m.frozen === m.archived).length,
        display: marks.filter((m) => m.frozen !== null && m.frozen === m.displayed).length,
      },
      joins: watched.joins.map((j) => j.picture_ms),
      joining_s: watched.joins.reduce((sum, j) => sum + j.until_ms + SETTLES_MS - j.from_ms, 0) / 1000,
      join_open: spread(watched.joins.map((j) => j.open_ms)),
      join_picture: spread(watched.joins.map((j) => j.picture_ms)),
      claps: { n: all.length, heard: heard.length },
      source_skew: spread(all.map((c) => c.click_ms - c.flash_ms)),
      mouth_to_ear: spread(heard.map((c) => c.heard_ms! - c.click_ms)),
      output_latency_ms: watched.latency_ms,
      skew: spread(skews),
      skew_parts: sixths(skews),
      seek: spread(seeks.map((s) => s.took_ms ?? NaN)),
      seeks: { n: seeks.length, right: seeks.filter((s) => s.number !== null && s.number === s.archived).length },
    },
  };
}
