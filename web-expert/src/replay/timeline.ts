// One session's recording as lanes over one time line: seconds since the session was called, or since help came to a call that waited long.
//
// Owns: where each fragment and each frame lies. Never: loads a byte. Elsewhere: loading (lane.ts), the clock (player.svelte.ts).

import type { Session } from '@bindings/session';
import type { FrameId } from '@bindings/ids';
import type { CaseView, Moment, Segment } from '../protocol/fold';
import { KIND } from '../protocol/kind';

/** A run is laid by one anchor; two clocks 50 ppm apart drift 15 ms in this time. */
const RUN_S = 300;
/** Silence between fragments shorter than this is no gap for the eye, s. */
const SMALL_GAP_S = 0.25;

/** A longer wait for help is left off the line: the recording would be a sliver at its end, ms. */
const LONG_WAIT_MS = 60_000;

/** RTP time as it travels has 32 bits. */
const WRAP = 2 ** 32;

export interface Piece {
  segment: Segment;
  /** Seconds on the line. */
  from: number;
  to: number;
  /** Ticks per second of the track. */
  rate: number;
}

export interface Lane {
  key: string;
  owner: string;
  kind: 'video' | 'voice';
  pieces: Piece[];
}

export interface Hole {
  owner: string;
  from: number;
  to: number;
  why: string;
}

export interface Timeline {
  session: Session;
  start_ms: number;
  /** Seconds. */
  length: number;
  lanes: Lane[];
  holes: Hole[];
  moments: (Moment & { at: number })[];
}

/** Moments that stand on the line as markers; all others are in the list only. */
export const MARKED = ['message', 'snapshot', 'instruction', 'receipt', 'recording.started', 'recording.stopped', 'session.joined', 'session.left', 'consent.record', 'consent.call_only', 'consent.refused', 'session.ended'];

export function buildTimeline(view: CaseView, segments: readonly Segment[], session: Session): Timeline {
  const mine = segments.filter((s) => s.session === session.id);
  const start_ms = startOf(view, mine, session);
  const lanes = [...laneOf(mine, 'video', start_ms), ...laneOf(mine, 'voice', start_ms)];
  const at = (ms: number) => (ms - start_ms) / 1000;
  const holes = view.gaps
    .filter((g) => g.session === session.id)
    .map((g) => ({ owner: g.body.owner, from: at(g.body.from_us / 1000), to: at(g.body.to_us / 1000), why: g.body.why }));
  const moments = view.moments
    .filter((m) => m.session === session.id || belongs(m, session))
    .map((m) => ({ ...m, at: Math.max(0, at(m.at_ms)) }))
    .sort((a, b) => a.at - b.at || a.seq - b.seq);
  const ends = [
    session.ended_at_ms === undefined ? 0 : at(session.ended_at_ms),
    ...lanes.flatMap((l) => l.pieces.map((p) => p.to)),
    ...moments.filter((m) => m.session === session.id).map((m) => m.at),
  ];
  return { session, start_ms, length: Math.max(1, ...ends), lanes, holes, moments };
}

/** When the call came, or when its first expert (or its first fragment) did. */
function startOf(view: CaseView, mine: readonly Segment[], session: Session): number {
  const helped = view.moments.filter((m) => m.session === session.id && m.kind === KIND.sessionJoined && view.sessions.roles[m.author] === 'expert');
  const first_ms = [...helped.map((m) => m.at_ms), ...mine.map((s) => s.body.start_us / 1000)].reduce((a, b) => Math.min(a, b), Infinity);
  return Number.isFinite(first_ms) && first_ms - session.called_at_ms > LONG_WAIT_MS ? first_ms : session.called_at_ms;
}

/** Messages written outside the session but while it ran. */
function belongs(m: Moment, session: Session): boolean {
  return m.kind === 'message' && !m.session && m.at_ms >= session.called_at_ms && m.at_ms <= (session.ended_at_ms ?? Infinity);
}

function laneOf(segments: Segment[], kind: 'video' | 'voice', start_ms: number): Lane[] {
  const owners = new Map<string, Segment[]>();
  for (const s of segments) {
    if ((s.body.info.source === 'voice') !== (kind === 'voice')) continue;
    const list = owners.get(s.body.owner) ?? [];
    list.push(s);
    owners.set(s.body.owner, list);
  }
  return [...owners].map(([owner, all]) => {
    // Only where there is no `main` does the preview stand in.
    const main = kind === 'video' ? all.filter((s) => s.body.info.source === 'main') : all;
    return { key: `${kind} ${owner}`, owner, kind, pieces: pieces(main.length > 0 ? main : all, start_ms) };
  });
}

/** Lays fragments on the line. Those of one unbroken run keep their exact RTP distances: the fit of a young track wanders. */
function pieces(segments: Segment[], start_ms: number): Piece[] {
  const sorted = [...segments].sort((a, b) => a.body.start_us - b.body.start_us);
  const out: Piece[] = [];
  for (let i = 0; i < sorted.length; ) {
    const run = runFrom(sorted, i);
    i += run.length;
    const first = run[0]!.body;
    const rate = first.info.source === 'voice' ? 48_000 : 90_000;
    const since = (rtp: number) => (rtp - first.rtp_start) / rate;
    const zero = median(run.map((s) => (s.body.start_us / 1000 - start_ms) / 1000 - since(s.body.rtp_start)));
    for (const segment of run) {
      const { rtp_start, rtp_end } = segment.body;
      out.push({ segment, from: zero + since(rtp_start), to: zero + since(Math.max(rtp_start, rtp_end)), rate });
    }
  }
  return out;
}

/** Fragments from `i` on that follow each other without a hole, at most RUN_S of them. */
function runFrom(sorted: Segment[], i: number): Segment[] {
  const run = [sorted[i]!];
  for (let k = i + 1; k < sorted.length; k++) {
    const last = run.at(-1)!.body;
    const next = sorted[k]!.body;
    const long = (next.start_us - run[0]!.body.start_us) / 1e6 > RUN_S;
    if (long || next.info.track !== last.info.track || next.rtp_start !== last.rtp_end) break;
    run.push(sorted[k]!);
  }
  return run;
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}

/** The piece that covers this time; a piece also covers the small silence after it. */
export function pieceAt(lane: Lane, t: number): Piece | null {
  // By halves: an hour has thousands of pieces and the player asks at every frame.
  let lo = 0;
  let hi = lane.pieces.length;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (lane.pieces[mid]!.from <= t + 1e-6) lo = mid + 1;
    else hi = mid;
  }
  const p = lane.pieces[lo - 1];
  return p && t < p.to + SMALL_GAP_S ? p : null;
}

/** Where the next piece after this time begins; null after the last. */
export function nextStart(lane: Lane, t: number): number | null {
  return lane.pieces.find((p) => p.from > t)?.from ?? null;
}

/** Start times of the frames of a piece, seconds on the line. */
export function frameTimes(p: Piece): number[] {
  return p.segment.body.frame_ticks.map((tick) => p.from + tick / p.rate);
}

/** The recorded frame that stands at `t`, and when it is followed by the next one, both on the line; null where there is none. */
export function frameAt(lane: Lane, t: number): { frame: FrameId; from: number; next: number } | null {
  const p = pieceAt(lane, t);
  if (!p) return null;
  const starts = frameTimes(p);
  const i = starts.findLastIndex((from) => from <= t + 1e-6);
  if (i < 0) return null;
  const { info, rtp_start, frame_ticks } = p.segment.body;
  const after = nextStart(lane, starts[i]!) ?? p.to;
  return { frame: { track: info.track, rtp: rtp_start + frame_ticks[i]! }, from: starts[i]!, next: starts[i + 1] ?? after };
}

/** The middle of the frame `by` frames after the one shown at `t`; null at either end of the lane. */
export function stepFrame(lane: Lane, t: number, by: 1 | -1): number | null {
  const i = Math.max(0, lane.pieces.findLastIndex((p) => p.from <= t + 1e-6));
  const near = lane.pieces.slice(Math.max(0, i - 1), i + 2);
  const starts = near.flatMap((p) => frameTimes(p).map((from) => ({ from, end: p.to }))).sort((a, b) => a.from - b.from);
  if (starts.length === 0) return null;
  const now = starts.findLastIndex((s) => s.from <= t + 1e-6);
  const to = starts[now + by];
  if (!to) return null;
  const after = starts[now + by + 1]?.from ?? to.end;
  return middle(to.from, after);
}

/** Where the frame of an instruction lies; null when it was not recorded. */
export function timeOfFrame(lanes: readonly Lane[], frame: FrameId): number | null {
  for (const lane of lanes) {
    for (const p of lane.pieces) {
      const { info, rtp_start, rtp_end } = p.segment.body;
      // A browser's track has no base: who marks knows its 32 bits only, the archive counts on beyond them.
      const since = info.rtp_base === undefined ? (((frame.rtp - rtp_start) % WRAP) + WRAP) % WRAP : frame.rtp - rtp_start;
      if (info.track === frame.track && since >= 0 && since < rtp_end - rtp_start) return p.from + since / p.rate;
    }
  }
  return null;
}

/** A sign on the line: one moment, or several that stand too close to be told apart. */
export interface Marker<M> {
  /** Pixels from the start. */
  x: number;
  moments: M[];
}
/** A sign and the air beside it, pixels. */
const MARKER_PX = 25;
/** A sign may stand this far from its time to keep clear of its neighbour; beyond that they become one. */
const SHIFT_PX = 20;

/** Signs side by side, none over another. */
export function markersOf<M extends { at: number }>(moments: readonly M[], length: number, width: number): Marker<M>[] {
  const out: Marker<M>[] = [];
  for (const m of moments) {
    const x = (m.at / length) * width;
    const last = out.at(-1);
    const free = last ? last.x + MARKER_PX : 0;
    if (!last || x >= free) out.push({ x, moments: [m] });
    else if (free - x <= SHIFT_PX && free <= width) out.push({ x: free, moments: [m] });
    else last.moments.push(m);
  }
  return out;
}

/** The next or previous moment on the line. */
export function stepMoment(line: Timeline, t: number, by: 1 | -1): (Moment & { at: number }) | null {
  const marked = line.moments.filter((m) => MARKED.includes(m.kind));
  return by > 0 ? (marked.find((m) => m.at > t + 0.05) ?? null) : (marked.findLast((m) => m.at < t - 0.05) ?? null);
}

/** Loudness over the line as columns 0..1, for drawing; null where nothing was recorded. */
export function loudness(lane: Lane, length: number, columns: number): (number | null)[] {
  const out: (number | null)[] = new Array<number | null>(columns).fill(null);
  for (const p of lane.pieces) {
    const levels = p.segment.body.levels;
    const first = Math.floor((p.from / length) * columns);
    const last = Math.min(columns - 1, Math.floor((p.to / length) * columns));
    for (let c = Math.max(0, first); c <= last; c++) {
      const t = ((c + 0.5) / columns) * length - p.from;
      // One level per 250 ms.
      const level = levels[Math.min(levels.length - 1, Math.max(0, Math.floor(t / 0.25)))] ?? 0;
      // Levels are decibels: the square brings speech out of the noise of a workshop.
      out[c] = Math.max(out[c] ?? 0, (level / 127) ** 2);
    }
  }
  return out;
}

function middle(from: number, to: number): number {
  // Never beyond half of a tenth: after the last frame of a fragment the next may be far.
  return from + Math.min((to - from) / 2, 0.05);
}
