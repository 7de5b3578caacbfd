// A call that was pressed on the start page, on its way to the page of its case. Never outlives this window.

import type { CaseCard } from '@bindings/payload';

/** Case → its card, until the call begins. */
export const starting = new Map<string, CaseCard>();
