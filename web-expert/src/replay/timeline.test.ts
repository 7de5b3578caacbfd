// Where fragments, frames, gaps and loudness lie on the line.

import type { SegmentPayload } from '@bindings/payload';
import type { Session } from '@bindings/session';
import { describe, expect, it } from 'vitest';
import { newCaseView, type Segment } from '../protocol/fold';
import { buildTimeline, frameAt, frameTimes, loudness, markersOf, nextStart, pieceAt, stepFrame, stepMoment, timeOfFrame } from './timeline';

const SESSION: Session = { id: 's', caller: 'ann', called_at_ms: 1_000_000, participants: {}, ended_at_ms: 1_060_000 };

function segment(over: Partial<SegmentPayload>, source: 'main' | 'preview' | 'voice' = 'main'): Segment {
  const rate = source === 'voice' ? 48_000 : 90_000;
  const rtp_start = over.rtp_start ?? 0;
  return {
    session: 's',
    digest: `${source} ${rtp_start}`,
    body: {
      owner: 'ann',
      info: { track: source, source, codec: 'vp8', clock_offset_us: 0, width: 1280, height: 720 },
      media: '',
      mime: 'video/webm; codecs="vp8"',
      init_len: 0,
      size: 0,
      chunks: [],
      rtp_start,
      rtp_end: rtp_start + 2 * rate,
      start_us: 1_010_000_000,
      end_us: 1_012_000_000,
      media_start_ms: 0,
      frames: 4,
      missing: 0,
      frame_ticks: [0, 45_000, 90_000, 135_000],
      clock: [],
      levels: [],
      ...over,
    },
  };
}

const line = (...segments: Segment[]) => buildTimeline(newCaseView('c'), segments, SESSION);

describe('lanes', () => {
  const two = line(
    // Out of order, and the fit moved the second by 30 ms: they are laid end to end all the same.
    segment({ rtp_start: 180_000, rtp_end: 360_000, start_us: 1_011_970_000 }),
    segment({}),
    segment({ owner: 'ben', levels: [0, 127] }, 'voice'),
    segment({ rtp_start: 77 }, 'preview'),
  );

  it('puts pictures before voices and the preview behind the camera', () => {
    expect(two.lanes.map((l) => [l.kind, l.owner, l.pieces.length])).toEqual([
      ['video', 'ann', 2],
      ['voice', 'ben', 1],
    ]);
    expect(two.lanes[0]!.pieces.map((p) => [p.from, p.to])).toEqual([
      [10, 12],
      [12, 14],
    ]);
    expect(two.length).toBe(60);
  });

  it('begins where help came, after a long wait', () => {
    const view = newCaseView('c');
    view.sessions.roles = { eva: 'expert', log: 'archivist' };
    const join = (author: string, after_s: number) =>
      view.moments.push({ id: author, seq: after_s, kind: 'session.joined', author, session: 's', at_ms: SESSION.called_at_ms + after_s * 1000 });
    join('log', 1);
    join('eva', 3600);
    const late = segment({ start_us: (SESSION.called_at_ms + 3_605_000) * 1000 });
    const line = buildTimeline(view, [late], { ...SESSION, ended_at_ms: SESSION.called_at_ms + 3_660_000 });
    expect([line.start_ms, line.length]).toEqual([SESSION.called_at_ms + 3_600_000, 60]);
    expect(line.lanes[0]!.pieces[0]!.from).toBe(5);
    expect(line.moments.map((m) => m.at)).toEqual([0, 0]);
  });

  it('leaves a real jump as a gap', () => {
    const jump = line(segment({}), segment({ rtp_start: 450_000, rtp_end: 630_000, start_us: 1_015_000_000 }));
    const lane = jump.lanes[0]!;
    expect(pieceAt(lane, 9.9)).toBeNull();
    expect(pieceAt(lane, 11)?.from).toBe(10);
    expect(pieceAt(lane, 13)).toBeNull();
    expect(nextStart(lane, 13)).toBe(15);
    expect(nextStart(lane, 16)).toBeNull();
  });

  it('finds frames by step and by id, across fragments', () => {
    const lane = two.lanes[0]!;
    expect(frameTimes(lane.pieces[1]!)).toEqual([12, 12.5, 13, 13.5]);
    const forward = stepFrame(lane, 11.6, 1)!;
    expect(forward).toBeGreaterThan(12);
    expect(forward).toBeLessThan(12.5);
    expect(stepFrame(lane, forward, -1)).toBeCloseTo(11.55, 5);
    expect(stepFrame(lane, 10.1, -1)).toBeNull();
    expect(stepFrame(lane, 13.6, 1)).toBeNull();
    expect(timeOfFrame(two.lanes, { track: 'main', rtp: 225_000 })).toBe(12.5);
    expect(timeOfFrame(two.lanes, { track: 'main', rtp: 360_000 })).toBeNull();
    expect(frameAt(lane, 12.7)).toEqual({ frame: { track: 'main', rtp: 225_000 }, from: 12.5, next: 13 });
    expect(frameAt(lane, 11.99)).toEqual({ frame: { track: 'main', rtp: 135_000 }, from: 11.5, next: 12 });
    expect(frameAt(lane, 13.9)?.next).toBe(14);
    expect(frameAt(lane, 9)).toBeNull();
  });

  it('finds a frame of a browser, whose 32 bits ran over between two fragments', () => {
    const wrap = 2 ** 32;
    const { lanes } = line(
      segment({ rtp_start: wrap - 180_000, rtp_end: wrap }),
      segment({ rtp_start: wrap, rtp_end: wrap + 180_000, start_us: 1_012_000_000 }),
    );
    expect(timeOfFrame(lanes, { track: 'main', rtp: wrap - 90_000 })).toBe(11);
    expect(timeOfFrame(lanes, { track: 'main', rtp: 45_000 })).toBe(12.5);
    expect(timeOfFrame(lanes, { track: 'main', rtp: 180_000 })).toBeNull();
  });

  it('draws loudness where something was recorded, and only there', () => {
    const columns = loudness(two.lanes[1]!, 60, 60);
    expect(columns.slice(9, 13)).toEqual([null, 1, 1, 1]);
    expect(columns[20]).toBeNull();
  });
});

describe('moments', () => {
  it('steps through markers in both directions', () => {
    const view = newCaseView('c');
    for (const [i, s] of [5, 20, 40].entries()) {
      view.moments.push({ id: `${i}`, seq: i, kind: 'message', author: 'ann', session: 's', at_ms: SESSION.called_at_ms + s * 1000 });
    }
    view.moments.push({ id: 'x', seq: 9, kind: 'notice.shown', author: 'ann', session: 's', at_ms: SESSION.called_at_ms + 7000 });
    view.moments.push({ id: 'y', seq: 10, kind: 'message', author: 'ann', session: 'other', at_ms: SESSION.called_at_ms + 8000 });
    const t = buildTimeline(view, [], SESSION);
    expect(t.moments.map((m) => m.at)).toEqual([5, 7, 20, 40]);
    expect(stepMoment(t, 0, 1)?.at).toBe(5);
    expect(stepMoment(t, 5, 1)?.at).toBe(20);
    expect(stepMoment(t, 20, -1)?.at).toBe(5);
    expect(stepMoment(t, 40, 1)).toBeNull();
  });
});

it('keeps signs on the line apart, and joins those that are too close', () => {
  const at = (list: number[]) => markersOf(list.map((at) => ({ at })), 100, 1000).map((k) => [k.x, k.moments.length]);
  expect(at([10, 20, 30])).toEqual([[100, 1], [200, 1], [300, 1]]);
  expect(at([10, 11])).toEqual([[100, 1], [125, 1]]);
  expect(at([10, 10, 10])).toEqual([[100, 3]]);
  expect(at([98.5, 100])).toEqual([[985, 2]]);
});
