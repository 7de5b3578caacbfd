// What tests may ask a page with a replay: `window.lotse.replay()`. Read-only; nothing of the page depends on it.
//
// Times are seconds on the time line. `frame` and its start and end come from the archive's frame_ticks for the playhead's
// place; `element` is where the video element stands, which is what is seen.

import type { FrameId } from '@bindings/ids';
import '../live/facts';

export interface ReplayFact {
  /** The playhead. */
  time: number;
  /** The video element's own place; null while there is none. */
  element: number | null;
  /** A seek of the element has not ended yet. */
  seeking: boolean;
  /** The recorded frame at the playhead; null where nothing was recorded. */
  frame: FrameId | null;
  frame_start: number | null;
  next_frame_start: number | null;
}

let ask: (() => ReplayFact) | null = null;

export const replayFacts = {
  from(source: () => ReplayFact): void {
    ask = source;
  },
  none(source: () => ReplayFact): void {
    if (ask === source) ask = null;
  },
};

declare global {
  interface Lotse {
    /** Null while nothing is replayed. */
    replay?(): ReplayFact | null;
  }
}

if (typeof window !== 'undefined' && window.lotse) window.lotse.replay = () => ask?.() ?? null;
