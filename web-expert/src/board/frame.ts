// From the 32-bit RTP time of a shown frame to the FrameId's unwrapped one.
//
// A publisher with its own clock announces `rtp_base` and `start_us`; the unwrapped value is the one nearest to
// base + elapsed time (docs/PROTOCOL.md).

import type { TrackInfo } from '@bindings/signal';

const WRAP = 2 ** 32;
const TICKS_PER_US = 0.09;

/** Unwraps `rtp` seen at server time `now_us`; a track without a base keeps the value as it came. */
export function unwrap(rtp: number, info: TrackInfo, now_us: number): number {
  if (info.rtp_base === undefined || info.start_us === undefined) return rtp;
  const elapsed_us = Math.max(0, now_us - (info.start_us + info.clock_offset_us));
  const expected = info.rtp_base + elapsed_us * TICKS_PER_US;
  const low = ((rtp % WRAP) + WRAP) % WRAP;
  const turns = Math.round((expected - low) / WRAP);
  return low + Math.max(0, turns) * WRAP;
}

/** Server UTC of an unwrapped RTP time, µs; null without a base. */
export function timeOf(rtp: number, info: TrackInfo): number | null {
  if (info.rtp_base === undefined || info.start_us === undefined) return null;
  return info.start_us + info.clock_offset_us + (rtp - info.rtp_base) / TICKS_PER_US;
}
