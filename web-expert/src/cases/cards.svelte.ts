// The words of cases in lists: opens the newest card event of each summary, and the name of each caller.
//
// Owns: the opened words, by digest. Never: checks the chain (a list shows one event of each log; the case page checks all of it).

import type { Call, CaseSummary, SentEvent } from '@bindings/command';
import type { CaseCard, JoinedPayload } from '@bindings/payload';
import { api } from '../link/http';
import { fromBase64, fromUtf8 } from '../protocol/bytes';
import { readAuthor } from '../protocol/envelope';
import { openChecked } from '../protocol/item';

/** Events kept; the oldest go first. A list page has 50. */
const KEPT = 1000;

const opened: Record<string, unknown> = $state({});
const asked = new Set<string>();

/** The card's words, or null until they are opened (or when they cannot be). */
export function cardOf(summary: CaseSummary): CaseCard | null {
  return wordsOf<CaseCard>(summary.card);
}

/** Who calls; empty until it is opened (or when it cannot be). */
export function callerOf(call: Call): string {
  return wordsOf<JoinedPayload>(call.caller)?.name ?? '';
}

/** Starts opening the cards of these summaries. */
export function openCards(summaries: readonly CaseSummary[]): void {
  for (const s of summaries) openWords(s.case, s.card);
}

/** Starts opening the cards of these calls, and their callers' names. */
export function openCalls(calls: readonly Call[]): void {
  for (const c of calls) {
    openWords(c.summary.case, c.summary.card);
    openWords(c.summary.case, c.caller);
  }
}

function openWords(caseId: string, event: SentEvent | undefined): void {
  const digest = digestOf(event);
  const ref = event?.items.find((i) => i.digest === digest);
  if (!digest || !ref?.key || asked.has(digest)) return;
  if (asked.size >= KEPT) {
    const oldest = asked.values().next().value!;
    asked.delete(oldest);
    delete opened[oldest];
  }
  asked.add(digest);
  void open(caseId, digest, ref.key, ref.bytes);
}

function wordsOf<T>(event: SentEvent | undefined): T | null {
  const digest = digestOf(event);
  return digest ? ((opened[digest] as T | undefined) ?? null) : null;
}

async function open(caseId: string, digest: string, key: string, bytes?: string): Promise<void> {
  try {
    const sealed = bytes ? fromBase64(bytes) : await api.item(caseId, digest);
    opened[digest] = JSON.parse(fromUtf8(await openChecked(digest, key, sealed)));
  } catch {
    // Shown as untitled; asked again when the summary comes anew.
    asked.delete(digest);
  }
}

function digestOf(event: SentEvent | undefined): string | null {
  try {
    return event ? (readAuthor(event.event.author).item ?? null) : null;
  } catch {
    return null;
  }
}
