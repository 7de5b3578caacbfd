// A leg in one word: the same on the expert's page and on the technician's phone.

import type { LinkStatePayload } from '@bindings/payload';
import type { Leg } from '@bindings/signal';

export type Grade = 'none' | 'measuring' | 'bad' | 'poor' | 'good';

/** Poor from 10 % loss or 1000 ms (PRODUCT.md, rule 7); weak well before. */
export function gradeOf(leg: Leg | null, rtt: number | null, away = false): Grade {
  if (away) return 'none';
  if (leg === null) return 'measuring';
  if (!leg.connected) return 'none';
  const loss = Math.max(leg.loss_up_pct, leg.loss_down_pct);
  return loss > 10 || (rtt ?? 0) > 1000 ? 'bad' : loss > 2 || (rtt ?? 0) > 250 ? 'poor' : 'good';
}

export const BARS: Record<Grade, number> = { measuring: 0, none: 0, bad: 1, poor: 2, good: 4 };

/** What a person's own program said of its link, as a word of ours: what is left of the picture, else what is wrong. */
export function linkWord(said: LinkStatePayload): 'still_mode' | 'audio_only' | 'slow' | 'late' | 'lossy' | undefined {
  if (said.state === 'still_mode' || said.state === 'audio_only') return said.state;
  return said.state === 'poor' && said.why !== 'silent' ? said.why : undefined;
}
