// Places in the list of pictures that were on screen: 32-bit RTP times, oldest first.

import { apart } from './ring';

/** Those of the list that are not later than `last` and at most `ticks` before it; each once. */
export function since(painted: readonly number[], last: number, ticks: number): number[] {
  const list = [...new Set(painted)].filter((rtp) => apart(last, rtp) >= 0 && apart(last, rtp) <= ticks);
  if (list.at(-1) !== last) list.push(last);
  return list;
}

/** The index nearest to this RTP time; at least one picture away in the direction asked. */
export function indexFrom(seen: readonly number[], rtp: number, from: number, direction: number): number {
  const wanted = rtp >>> 0;
  let best = from;
  for (let i = 0; i < seen.length; i++) {
    if (Math.sign(i - from) !== Math.sign(direction)) continue;
    if (best === from || Math.abs(apart(seen[i]!, wanted)) < Math.abs(apart(seen[best]!, wanted))) best = i;
  }
  return best;
}
