// The words of cases in lists: opens the newest card event of each summary.
//
// Owns: the opened cards, by digest. Never: checks the chain (a list shows one event of each log; the case page checks all of it).

import type { CaseSummary } from '@bindings/command';
import type { CaseCard } from '@bindings/payload';
import { api } from '../link/http';
import { fromBase64, fromUtf8 } from '../protocol/bytes';
import { readAuthor } from '../protocol/envelope';
import { openChecked } from '../protocol/item';

/** Cards kept; the oldest go first. A list page has 50. */
const KEPT = 1000;

const opened: Record<string, CaseCard> = $state({});
const asked = new Set<string>();

/** The card's words, or null until they are opened (or when they cannot be). */
export function cardOf(summary: CaseSummary): CaseCard | null {
  const digest = digestOf(summary);
  return digest ? (opened[digest] ?? null) : null;
}

/** Starts opening the cards of these summaries. */
export function openCards(summaries: readonly CaseSummary[]): void {
  for (const s of summaries) {
    const digest = digestOf(s);
    const ref = s.card?.items.find((i) => i.digest === digest);
    if (!digest || !ref?.key || asked.has(digest)) continue;
    if (asked.size >= KEPT) {
      const oldest = asked.values().next().value!;
      asked.delete(oldest);
      delete opened[oldest];
    }
    asked.add(digest);
    void open(s.case, digest, ref.key, ref.bytes);
  }
}

async function open(caseId: string, digest: string, key: string, bytes?: string): Promise<void> {
  try {
    const sealed = bytes ? fromBase64(bytes) : await api.item(caseId, digest);
    opened[digest] = JSON.parse(fromUtf8(await openChecked(digest, key, sealed))) as CaseCard;
  } catch {
    // Shown as untitled; asked again when the summary comes anew.
    asked.delete(digest);
  }
}

function digestOf(summary: CaseSummary): string | null {
  try {
    return summary.card ? (readAuthor(summary.card.event.author).item ?? null) : null;
  } catch {
    return null;
  }
}
