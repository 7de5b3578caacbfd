// Moments of a case in words: one title, one detail, the same in chat, case and replay.

import type { CaseView, Moment } from '../protocol/fold';
import { KIND } from '../protocol/kind';
import { duration, number, words } from '../strings/index.svelte';

export interface MomentText {
  title: string;
  detail: string;
}

/** The archivist's name until somebody gives it one (archivist.toml); here it is a word of the page's language. */
const UNNAMED_ARCHIVIST = 'Archivist';

export function nameOf(view: CaseView, who: string | undefined): string {
  if (!who) return '';
  const p = view.people[who];
  if (p?.role === 'archivist' && p.name === UNNAMED_ARCHIVIST) return words().roles.archivist;
  return p?.name || (p ? words().roles[p.role] : words().common.unknown);
}

export function momentText(view: CaseView, m: Moment): MomentText {
  const t = words();
  const w = t.moments;
  const who = nameOf(view, m.author);
  switch (m.kind) {
    case KIND.gatewayJoined:
      return { title: w[KIND.gatewayJoined](nameOf(view, m.about)), detail: '' };
    case KIND.sessionLeft:
      return { title: (m.detail === 'lost' ? w.lost : w.left)(nameOf(view, m.about)), detail: '' };
    case KIND.sessionEnded: {
      const note = m.session ? view.outcomes[m.session]?.body?.note : '';
      return { title: w['session.ended'], detail: [outcome(m.detail), note].filter(Boolean).join(' · ') };
    }
    case KIND.message: {
      const line = view.chat.find((c) => c.id === m.id);
      return { title: who, detail: line?.file ? line.file.name : (line?.text ?? '') };
    }
    case KIND.instruction: {
      const i = view.instructions.find((x) => x.id === m.id);
      return { title: w.instruction(who), detail: i ? i.body.text || t.marks(i.body.marks.length) : '' };
    }
    case KIND.receipt:
      return { title: `${who}: ${receiptWord(m.detail)}`, detail: instructionWords(view, m.ref) };
    case KIND.linkState: {
      const say = w.links[m.detail as keyof typeof w.links];
      return { title: say?.(who) ?? w.unknown(m.kind), detail: m.kbit === undefined ? '' : rateText(m.kbit) };
    }
    case KIND.recordingStopped:
      return { title: w[KIND.recordingStopped], detail: w.stops[m.detail as keyof typeof w.stops] ?? '' };
    case KIND.gap:
      return { title: w.gap(nameOf(view, m.about)), detail: [t.replay.gaps[m.detail as keyof typeof t.replay.gaps], m.lasts_ms && lengthText(m.lasts_ms)].filter(Boolean).join(' · ') };
    case KIND.viewed:
    case KIND.exported:
      return { title: w[m.kind](who), detail: m.detail ?? '' };
    default: {
      const say = (w as unknown as Record<string, string | ((who: string) => string) | undefined>)[m.kind];
      const title = typeof say === 'function' ? say(who) : (say ?? w.unknown(m.kind));
      return { title, detail: '' };
    }
  }
}

/** Short stretches in seconds with a tenth. */
const lengthText = (ms: number): string => (ms < 60_000 ? `${number(ms / 1000, 1)} s` : duration(ms));

/** kbit/s as people read them. */
export const rateText = (kbit: number): string => (kbit >= 1000 ? `${number(kbit / 1000, 1)} Mbit/s` : `${number(kbit)} kbit/s`);

function outcome(result: string | undefined): string {
  const o = words().live.outcomes;
  return o[result as keyof typeof o] ?? '';
}

function receiptWord(state: string | undefined): string {
  const r = words().receipts;
  return r[state as keyof typeof r] ?? '';
}

function instructionWords(view: CaseView, id: string | undefined): string {
  return view.instructions.find((i) => i.id === id)?.body.text ?? '';
}
