// What the last 20 seconds keep: bounded in time and bytes, decodable, in order.

import { describe, expect, it } from 'vitest';
import { apart, EncodedRing, KEPT_TICKS, MAX_BYTES, type Encoded } from './ring';

const TICK = 3600;
/** 25 a second, a key frame every `gop`, from an RTP time on. */
function* pictures(n: number, gop: number, bytes = 1000, from = 0): Generator<Encoded> {
  for (let i = 0; i < n; i++) yield { rtp: (from + i * TICK) % 2 ** 32, key: i % gop === 0, data: new Uint8Array(bytes) };
}
const filled = (frames: Iterable<Encoded>) => {
  const ring = new EncodedRing();
  for (const f of frames) ring.push(f);
  return ring;
};

describe('the last 20 seconds', () => {
  it.each([25, 50, 250])('keep everything of 20 s and not much more with a key frame every %d pictures', (gop) => {
    const ring = filled(pictures(2000, gop));
    const newest = ring.frames.at(-1)!.rtp;
    const oldest = ring.frames[0]!;
    expect(oldest.key).toBe(true);
    expect(apart(newest, oldest.rtp)).toBeGreaterThanOrEqual(KEPT_TICKS);
    expect(apart(newest, oldest.rtp)).toBeLessThan(KEPT_TICKS + (gop + 1) * TICK);
    expect(ring.bytes).toBe(ring.frames.length * 1000);
  });

  it('never hold more than their bytes, and begin with a key frame still', () => {
    const ring = filled(pictures(600, 50, 120_000));
    expect(ring.bytes).toBeLessThanOrEqual(MAX_BYTES);
    expect(ring.bytes).toBeGreaterThan(MAX_BYTES / 2);
    expect(ring.frames[0]!.key).toBe(true);
  });

  it('give up a run that alone is too large', () => {
    const ring = filled(pictures(300, 1e9, 120_000));
    expect(ring.bytes).toBeLessThanOrEqual(MAX_BYTES);
    expect(ring.chain(ring.frames[0]?.rtp ?? 0)).toBeNull();
  });

  it('decode a picture from its key frame on, and some beyond but not into the next run', () => {
    const ring = filled(pictures(120, 50));
    expect(ring.chain(70 * TICK)!.map((f) => f.rtp / TICK)).toEqual(Array.from({ length: 21 }, (_, i) => 50 + i));
    expect(ring.chain(97 * TICK, 9)!.at(-1)!.rtp).toBe(99 * TICK);
    expect(ring.chain(97 * TICK)![0]!.key).toBe(true);
    expect(ring.chain(1234)).toBeNull();
  });

  it('put a late picture in its place, and take one only once', () => {
    const all = [...pictures(10, 5)];
    const ring = filled([...all.slice(0, 6), ...all.slice(7), all[6]!, all[6]!]);
    expect(ring.frames.map((f) => f.rtp / TICK)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(ring.bytes).toBe(10_000);
  });

  it('go on over the end of 32 bit', () => {
    const from = 2 ** 32 - 100 * TICK;
    const ring = filled(pictures(1000, 50, 1000, from));
    const newest = ring.frames.at(-1)!;
    expect(newest.rtp).toBe((from + 999 * TICK) % 2 ** 32);
    expect(ring.chain((from + 990 * TICK) % 2 ** 32)).not.toBeNull();
    expect(apart(newest.rtp, ring.frames[0]!.rtp)).toBeLessThan(KEPT_TICKS + 51 * TICK);
  });
});
