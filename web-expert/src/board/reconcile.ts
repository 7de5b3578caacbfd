// Two lists of operations on the same picture made one: the same result whoever's list comes first.
//
// Owns: the order of operations of several authors. Never: drops one.

import type { Op } from './scene';

/** An operation as it travels: its author's running number and time order it. */
export interface SentOp {
  author: string;
  n: number;
  at_ms: number;
  op: Op;
}

/** Joins two lists; an operation that stands in both counts once. */
export function reconcile(a: readonly SentOp[], b: readonly SentOp[]): SentOp[] {
  const all = new Map<string, SentOp>();
  for (const op of [...a, ...b]) all.set(`${op.author} ${op.n}`, op);
  return [...all.values()].sort(byOrder);
}

/** Adds come before what refers to them; then by time, author, number. */
function byOrder(a: SentOp, b: SentOp): number {
  const first = Number(a.op.op !== 'add') - Number(b.op.op !== 'add');
  return first || a.at_ms - b.at_ms || (a.author < b.author ? -1 : a.author > b.author ? 1 : 0) || a.n - b.n;
}
