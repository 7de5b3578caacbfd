// When to come back, what time it is at the server, and which page an address names.

import { describe, expect, it } from 'vitest';
import { Clock } from './clock';
import { doubling } from './retry';

describe('retry', () => {
  it('starts quickly, stays within 30 s of network return, and never waits longer than 5 s', () => {
    for (const random of [0, 0.5, 1]) {
      const policy = doubling(() => random);
      const delays = Array.from({ length: 12 }, (_, i) => policy.delay(i + 1));
      expect(delays[0]).toBeLessThanOrEqual(300);
      expect(Math.max(...delays)).toBeLessThanOrEqual(5_000);
      expect(delays.every((d, i) => i === 0 || d >= delays[i - 1]!)).toBe(true);
    }
  });
});

describe('clock', () => {
  it('takes the offset of the quickest ping of the last ten', () => {
    const clock = new Clock();
    expect(clock.offset_us).toBe(0);
    // Slow and lopsided: 300 ms there, 0 back.
    clock.add(0, 5_300_000, 300_000);
    // Quick: 2 ms in all, five seconds ahead.
    clock.add(1_000_000, 6_001_000, 1_002_000);
    expect(clock.offset_us).toBe(5_000_000);
    for (let i = 0; i < 10; i++) clock.add(2_000_000 + i, 7_050_000 + i, 2_040_000 + i);
    // The quick one is forgotten.
    expect(clock.offset_us).toBe(5_030_000);
    expect(clock.rtt_ms).toBe(40);
  });

  it('passes over a pong from before its ping', () => {
    const clock = new Clock();
    clock.add(10, 20, 5);
    expect(clock.best).toBeNull();
  });
});
