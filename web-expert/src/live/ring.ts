// The encoded pictures of the last 20 seconds, as they came: from them any picture that was seen is decoded again, the same.
//
// Owns: what is kept and what is dropped, and which pictures one picture needs. Never: decodes, reads a clock.
// Elsewhere: who fills and asks it (history.worker.ts).

/** How far back somebody may step, ticks of 90 kHz: 20 s. */
export const KEPT_TICKS = 20 * 90_000;
/**
 * 24 MiB. A picture is decoded from its key frame on, and the glasses send one at least every 10 s, so up to 30 s are
 * held: 7.5 MB at 2 Mbit/s; 24 MiB are reached at 6.7 Mbit/s, and then the oldest go. Raw, 20 s of 720p would be 830 MB.
 */
export const MAX_BYTES = 24 * 1024 * 1024;

export interface Encoded {
  /** RTP time as on the wire, 32 bit. */
  rtp: number;
  key: boolean;
  data: Uint8Array;
}

/** Ticks from b to a on the circle of 32 bit; negative when a is earlier. */
export function apart(a: number, b: number): number {
  return (a - b) | 0;
}

export class EncodedRing {
  /** Oldest first; begins with a key frame. */
  #frames: Encoded[] = [];
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  get frames(): readonly Encoded[] {
    return this.#frames;
  }

  push(frame: Encoded): void {
    // A picture that was sent again may come after younger ones.
    let at = this.#frames.length;
    while (at > 0 && apart(this.#frames[at - 1]!.rtp, frame.rtp) > 0) at--;
    if (this.#frames[at - 1]?.rtp === frame.rtp) return;
    if (at === 0 && !frame.key) return;
    this.#frames.splice(at, 0, frame);
    this.#bytes += frame.data.byteLength;
    this.#trim();
  }

  /** The pictures to decode, in order, from the key frame to this one and up to `more` beyond; null when it is not here. */
  chain(rtp: number, more = 0): Encoded[] | null {
    return chainIn(this.#frames, rtp, more);
  }

  clear(): void {
    this.#frames = [];
    this.#bytes = 0;
  }

  #trim(): void {
    const newest = this.#frames.at(-1)!.rtp;
    let from = 0;
    for (let i = 1; i < this.#frames.length && apart(newest, this.#frames[i]!.rtp) >= KEPT_TICKS; i++) if (this.#frames[i]!.key) from = i;
    this.#drop(from);
    while (this.#bytes > MAX_BYTES) {
      const next = this.#frames.findIndex((f, i) => i > 0 && f.key);
      this.#drop(next < 0 ? this.#frames.length : next);
    }
  }

  #drop(n: number): void {
    if (n <= 0) return;
    for (const f of this.#frames.splice(0, n)) this.#bytes -= f.data.byteLength;
  }
}

export function chainIn(frames: readonly Encoded[], rtp: number, more = 0): Encoded[] | null {
  const at = frames.findIndex((f) => f.rtp === rtp);
  if (at < 0) return null;
  let from = at;
  while (from >= 0 && !frames[from]!.key) from--;
  if (from < 0) return null;
  let to = at + 1;
  while (to < frames.length && to <= at + more && !frames[to]!.key) to++;
  return frames.slice(from, to);
}
