// Whose marks lie on one picture, and which of them are shown.
//
// Owns: putting together layers by author. Never: changes a mark. Elsewhere: sheets in motion (sheets.ts).

import type { FrameId } from '@bindings/ids';
import type { Annotation, Instruction } from '@bindings/payload';
import { marksOf, type Sheet } from './sheets';

export interface Layer {
  author: string;
  marks: { id: string; annotation: Annotation }[];
}

export function sameFrame(a: FrameId, b: FrameId): boolean {
  return a.track === b.track && a.rtp === b.rtp;
}

/** Marks of everybody else on this very picture, by author in a fixed order: what they sent, and what they draw now. */
export function layersOn(
  frame: FrameId,
  me: string,
  sheets: Readonly<Record<string, Sheet>>,
  sent: readonly { id: string; author: string; body: Instruction }[],
): Layer[] {
  const layers = new Map<string, Layer['marks']>();
  const put = (author: string, marks: Layer['marks']) => {
    if (marks.length > 0) layers.set(author, [...(layers.get(author) ?? []), ...marks]);
  };
  for (const i of sent)
    if (i.author !== me && sameFrame(i.body.frame, frame)) put(i.author, i.body.marks.map((annotation, n) => ({ id: `${i.id} ${n}`, annotation })));
  for (const [author, sheet] of Object.entries(sheets))
    if (author !== me && !sheet.closed && sameFrame(sheet.frame, frame)) put(author, marksOf(sheet));
  return [...layers].sort(([a], [b]) => (a < b ? -1 : 1)).map(([author, marks]) => ({ author, marks }));
}

/** What lies under one's own marks: every layer that is not hidden. */
export function shownUnder(layers: readonly Layer[], hidden: ReadonlySet<string>): Layer['marks'] {
  return layers.filter((l) => !hidden.has(l.author)).flatMap((l) => l.marks);
}
