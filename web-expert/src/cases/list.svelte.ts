// The list of cases: pages from the server, kept fresh by the live link.

import type { CaseSummary } from '@bindings/command';
import { app } from '../app.svelte';
import { api, HttpError, type HttpProblem } from '../link/http';
import { openCards } from './cards.svelte';

export class CaseList {
  cases: CaseSummary[] | null = $state.raw(null);
  next: string | null = $state(null);
  busy = $state(false);
  problem: HttpProblem | null = $state.raw(null);

  async load(more = false): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    try {
      const page = await api.cases(more && this.next ? this.next : undefined);
      const before = more ? (this.cases ?? []) : [];
      const known = new Set(before.map((c) => c.case));
      this.cases = [...before, ...page.cases.filter((c) => !known.has(c.case))];
      this.next = page.next ?? null;
      this.problem = null;
      openCards(this.cases);
    } catch (e) {
      if (e instanceof HttpError && e.status === 401) app.expired();
      this.problem = e instanceof HttpError ? e.problem : { why: 'offline' };
    } finally {
      this.busy = false;
    }
  }

  /** A case is new or changed. */
  take(summary: CaseSummary): void {
    if (!this.cases) return;
    const known = this.cases.some((c) => c.case === summary.case);
    this.cases = known
      ? this.cases.map((c) => (c.case === summary.case ? summary : c))
      : [summary, ...this.cases];
    openCards([summary]);
  }
}
