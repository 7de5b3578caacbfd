// The server's clock as seen from here: offset at the smallest round trip of the last ten pings.

/** Pings remembered. */
const KEPT = 10;

export class Clock {
  #samples: { rtt_us: number; offset_us: number }[] = [];

  /** A pong: sent at `t0_us`, server time `server_us`, received at `t1_us`. */
  add(t0_us: number, server_us: number, t1_us: number): void {
    if (t1_us < t0_us) return;
    this.#samples.push({ rtt_us: t1_us - t0_us, offset_us: server_us - (t0_us + t1_us) / 2 });
    if (this.#samples.length > KEPT) this.#samples.shift();
  }

  get best(): { rtt_us: number; offset_us: number } | null {
    return this.#samples.reduce<{ rtt_us: number; offset_us: number } | null>(
      (best, s) => (best && best.rtt_us <= s.rtt_us ? best : s),
      null,
    );
  }

  /** Server UTC minus ours, µs; 0 until measured. */
  get offset_us(): number {
    return Math.round(this.best?.offset_us ?? 0);
  }

  /** Round trip of the newest ping, ms. */
  get rtt_ms(): number | null {
    const last = this.#samples.at(-1);
    return last ? last.rtt_us / 1000 : null;
  }
}

/** This device's UTC in µs, from the monotonic clock so that a jump of the wall clock does not show. */
export function localUs(): number {
  return Math.round((performance.timeOrigin + performance.now()) * 1000);
}
