// Stepping goes through pictures that were seen, never beyond the first or last.

import { describe, expect, it } from 'vitest';
import { indexFrom, since } from './steps';

const seen = Array.from({ length: 100 }, (_, i) => (2 ** 32 - 40 * 3600 + i * 3600) % 2 ** 32);

describe('steps', () => {
  it('take what was seen in the time before, also over the end of 32 bit', () => {
    const last = seen[80]!;
    expect(since(seen, last, 50 * 3600)).toEqual(seen.slice(30, 81));
    expect(since([...seen, ...seen], last, 9e9)).toEqual(seen.slice(0, 81));
  });

  it('name the frozen picture even where its painting was not told', () => {
    expect(since([1, 2], 3, 90_000)).toEqual([1, 2, 3]);
  });

  it('by seconds find the nearest picture, and the end where there is no more', () => {
    expect(indexFrom(seen, seen[60]! - 90_000, 60, -1)).toBe(35);
    expect(indexFrom(seen, seen[60]! + 90_000, 60, 1)).toBe(85);
    expect(indexFrom(seen, seen[10]! - 90_000, 10, -1)).toBe(0);
    expect(indexFrom(seen, seen[99]! + 90_000, 99, 1)).toBe(99);
  });

  it('move at least one picture where pictures are far apart', () => {
    expect(indexFrom([0, 900_000, 1_800_000], 1_800_000 - 90_000, 2, -1)).toBe(1);
  });
});
