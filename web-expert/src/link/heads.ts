// The newest signed head this browser saw of each case: a log that later ends before it was cut.
//
// Owns: one entry per case in this browser's storage, the newest KEPT cases. Never: judges (protocol/log.ts does).

import type { HeadFields, SignedHead } from '@bindings/envelope';

const PREFIX = 'lotse.head.';
/** Cases remembered; about 400 bytes each. */
const KEPT = 300;

export function keptHead(caseId: string): SignedHead | null {
  try {
    const text = localStorage.getItem(PREFIX + caseId);
    return text ? (JSON.parse(text) as SignedHead) : null;
  } catch {
    return null;
  }
}

export function keepHead(caseId: string, head: SignedHead): void {
  try {
    const before = keptHead(caseId);
    if (before && seqOf(before) >= seqOf(head)) return;
    localStorage.setItem(PREFIX + caseId, JSON.stringify(head));
    const all = Object.keys(localStorage).filter((k) => k.startsWith(PREFIX));
    // Case ids sort by time: the oldest cases go first.
    for (const k of all.sort().slice(0, Math.max(0, all.length - KEPT))) localStorage.removeItem(k);
  } catch {
    // A browser that keeps nothing proves nothing later; the check of today is not affected.
  }
}

function seqOf(head: SignedHead): number {
  return (JSON.parse(head.head) as HeadFields).seq;
}
