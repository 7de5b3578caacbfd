// What tests may ask a running page: `window.lotse`. Read-only; nothing of the page depends on it.
//
// frame(): FrameId of the picture on screen. painted(): the last 300 pictures as [unwrapped RTP, server UTC in ms
// when it was to appear], for glass-to-glass measurements.
// clock_offset_us(): server UTC minus the page's, as last used there.
// Elsewhere: the same of a replay (replay/facts.ts).

import type { FrameId } from '@bindings/ids';

const KEPT = 300;
let frame: FrameId | null = null;
let offset = 0;
const painted: [rtp: number, at_ms: number][] = [];

export const facts = {
  painted(id: FrameId, at: number, offset_us: number): void {
    frame = id;
    offset = offset_us;
    painted.push([id.rtp, performance.timeOrigin + at + offset_us / 1000]);
    if (painted.length > KEPT) painted.shift();
  },
};

declare global {
  interface Lotse {
    frame(): FrameId | null;
    painted(): [number, number][];
    clock_offset_us(): number;
  }
  interface Window {
    lotse?: Lotse;
  }
}

if (typeof window !== 'undefined') {
  window.lotse = {
    frame: () => frame && { ...frame },
    painted: () => painted.map((p) => [...p]),
    clock_offset_us: () => offset,
  };
}
