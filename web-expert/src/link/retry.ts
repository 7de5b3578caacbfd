// When to try again after a connection was lost: a policy that is asked, so that tests and pages can see the plan.

export interface RetryPolicy {
  /** ms to wait before try number `attempt` (from 1). */
  delay(attempt: number): number;
}

/** 0.3 s, then doubling up to 5 s: sessions must resume within 30 s of network return. A fifth of it is random, so that many pages do not come back at once. */
export function doubling(random: () => number = Math.random): RetryPolicy {
  return {
    delay: (attempt) => {
      const base = Math.min(5_000, 300 * 2 ** Math.max(0, attempt - 1));
      return Math.round(base * (0.8 + 0.2 * random()));
    },
  };
}
