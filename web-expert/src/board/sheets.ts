// What a colleague draws on a picture of theirs, while they draw: put together from messages that come in any order, twice or never.
//
// Owns: the one join of two states (the same whichever comes first), what is sent next. Never: sends, reads a clock.
// Elsewhere: the channel (link/rtc.svelte.ts), who shows it (live/colleagues.svelte.ts).

import type { FrameId } from '@bindings/ids';
import type { Annotation, PointerMessage, StrokePoint } from '@bindings/payload';

export type Marking = Extract<PointerMessage, { t: 'marking' }>;

/** One frozen picture somebody draws on. A put-away sheet stays put away. */
export interface Sheet {
  /** Rises with each picture its author freezes. */
  sheet: number;
  frame: FrameId;
  closed: boolean;
  /** By the mark's id; null: taken away. */
  marks: Readonly<Record<string, { version: number; annotation: Annotation | null }>>;
}

/** More marks than any instruction may have are not kept of a colleague either. */
const MAX_MARKS = 500;

export function sheetOf(m: Marking): Sheet {
  const marks = m.mark ? { [m.mark.id]: { version: m.mark.version, annotation: m.mark.annotation ?? null } } : {};
  return { sheet: m.sheet, frame: m.frame, closed: !m.mark, marks };
}

/** Both states in one: the newer sheet, of each mark the newer form. join(a, b) equals join(b, a), and joining again changes nothing. */
export function join(a: Sheet, b: Sheet): Sheet {
  if (a.sheet !== b.sheet) return a.sheet > b.sheet ? a : b;
  const marks: Record<string, Sheet['marks'][string]> = { ...a.marks };
  for (const [id, mark] of Object.entries(b.marks)) {
    const known = marks[id];
    if (!known && Object.keys(marks).length >= MAX_MARKS) continue;
    if (!known || newer(mark, known)) marks[id] = mark;
  }
  const frame = JSON.stringify(a.frame) >= JSON.stringify(b.frame) ? a.frame : b.frame;
  return { sheet: a.sheet, frame, closed: a.closed || b.closed, marks };
}

/** The marks in a fixed order, the same at everybody. */
export function marksOf(sheet: Sheet): { id: string; annotation: Annotation }[] {
  return Object.entries(sheet.marks)
    .filter(([, m]) => m.annotation)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([id, m]) => ({ id, annotation: m.annotation! }));
}

function newer(a: Sheet['marks'][string], b: Sheet['marks'][string]): boolean {
  if (a.version !== b.version) return a.version > b.version;
  // One author never gives one version two forms; whoever does is still read alike by all.
  return JSON.stringify(a.annotation) > JSON.stringify(b.annotation);
}

/** Points of a stroke in motion: so many fit into one message of 1,200 bytes. The sent instruction has them all. */
const POINTS = 26;
const TEXT = 160;

/** The mark small enough for one message. */
export function thin(a: Annotation): Annotation {
  if (a.shape === 'text') return { ...a, text: a.text.slice(0, TEXT) };
  if (a.shape !== 'stroke' || a.points.length <= POINTS) return a;
  const step = (a.points.length - 1) / (POINTS - 1);
  return { ...a, points: Array.from({ length: POINTS }, (_, i) => a.points[Math.round(i * step)] as StrokePoint) };
}

/** What of one's own sheet others may not have yet. Changes first, then everything in turn: what was lost comes again. */
export class SheetSender {
  #sheet = 0;
  #frame: FrameId | null = null;
  #known = new Map<string, { annotation: Annotation | null; version: number }>();
  #changed = new Set<string>();
  #turn = 0;

  /** A new picture; `now_s` makes the number rise over a reload too. */
  open(frame: FrameId, now_s: number): void {
    this.#sheet = Math.max(this.#sheet + 1, Math.floor(now_s));
    this.#frame = frame;
    this.#known.clear();
    this.#changed.clear();
  }

  /** Away with it; the message that says so, to be sent more than once. */
  close(): Marking | null {
    const frame = this.#frame;
    this.#frame = null;
    return frame && this.#known.size > 0 ? { t: 'marking', sheet: this.#sheet, frame } : null;
  }

  /** All marks there are now, the one in motion with them. */
  update(marks: readonly { id: string; annotation: Annotation }[]): void {
    const here = new Set<string>();
    for (const { id, annotation } of marks) {
      here.add(id);
      if (this.#known.get(id)?.annotation !== annotation) this.#note(id, annotation);
    }
    for (const [id, k] of this.#known) if (k.annotation && !here.has(id)) this.#note(id, null);
  }

  /** Something is new. */
  get pressing(): boolean {
    return this.#changed.size > 0;
  }

  next(): Marking | null {
    if (!this.#frame || this.#known.size === 0) return null;
    let id = this.#changed.values().next().value;
    if (id !== undefined) this.#changed.delete(id);
    else {
      const ids = [...this.#known.keys()];
      id = ids[this.#turn++ % ids.length]!;
    }
    const { annotation, version } = this.#known.get(id)!;
    return { t: 'marking', sheet: this.#sheet, frame: this.#frame, mark: { id, version, ...(annotation ? { annotation: thin(annotation) } : {}) } };
  }

  #note(id: string, annotation: Annotation | null): void {
    this.#known.set(id, { annotation, version: (this.#known.get(id)?.version ?? 0) + 1 });
    this.#changed.add(id);
  }
}
