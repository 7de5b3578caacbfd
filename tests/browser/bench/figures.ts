/**
 * From what was watched to figures: each a spread, with what belongs to it in words of numbers only.
 *
 * Owns: the arithmetic of times. Never: measures, judges. Elsewhere: the page of figures (`tests/bench/session.mjs`).
 */
import { spec } from '../pictures.ts';
import type { Archive } from './archive.ts';
import type { TrackInfo, Watch } from './watch.ts';

export type Spread = { n: number; min: number; p50: number; p95: number; max: number };

export function spread(values: readonly number[]): Spread | null {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  if (sorted.length === 0) return null;
  // The nearest rank: a value that was measured.
  const at = (part: number) => sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)]!;
  return { n: sorted.length, min: sorted[0]!, p50: at(0.5), p95: at(0.95), max: sorted.at(-1)! };
}

const RATE = { main: 90, preview: 90, voice: 48 } as Record<string, number>;
/** The Opus encoder looks ahead 312 samples at 48 kHz: a sound comes out of the decoder so much after its own RTP time. */
const OPUS_AHEAD_MS = 6.5;
/** A click is taken for a clap's own when it is heard within this, ms. */
const HEARD_WITHIN_MS = 2_000;

/** Server UTC of an RTP time of the glasses, ms. */
export function capturedAt(rtp: number, track: TrackInfo): number {
  return (track.start_us! + track.clock_offset_us) / 1000 + (rtp - track.rtp_base!) / RATE[track.source]!;
}

/** Capture → painted, of every picture seen. */
export function painted(watch: Watch): number[] {
  const track = watch.track('main');
  return [...watch.painted].map(([rtp, at]) => at - capturedAt(rtp, track));
}

/** The archive's clock samples say when the glasses' sender reports claim that an RTP time was; the announced mapping says it too. */
export function mappingError(archive: Archive): number[] {
  return archive.segments.flatMap((s) =>
    s.clock.filter((c) => c[1] > 0).map(([rtp, ntp_us]) => (ntp_us + s.info.clock_offset_us) / 1000 - capturedAt(rtp, s.info)),
  );
}

export type Clap = { flash_ms: number; click_ms: number; painted_ms: number | null; heard_ms: number | null };

/** Every clap of the session with its four times: captured as light and as sound, seen and heard by the expert. */
export function claps(watch: Watch, numbers: Map<number, number | null>, clicks: readonly number[]): Clap[] {
  const main = watch.track('main');
  const voice = watch.track('voice');
  const captured = clicks.map((rtp) => capturedAt(rtp, voice) - OPUS_AHEAD_MS);
  const heard = watch.heard.map((h) => h.at_ms);
  const found: Clap[] = [];
  for (const [rtp, number] of numbers) {
    if (!spec.claps.some((c) => c.frame === number)) continue;
    const flash_ms = capturedAt(rtp, main);
    // Rounds of the clip lose up to 40 ms between picture and sound before the glasses make it good.
    const click_ms = captured.find((c) => Math.abs(c - flash_ms) < 100);
    if (click_ms === undefined) continue;
    found.push({
      flash_ms,
      click_ms,
      painted_ms: watch.painted.get(rtp) ?? null,
      heard_ms: heard.find((h) => h > click_ms && h < click_ms + HEARD_WITHIN_MS) ?? null,
    });
  }
  return found;
}
