// One lane on one media element: fetches fragments around the playhead, appends them where they belong, frees the rest.
//
// Owns: the MediaSource of the lane. Never: plays; the player moves the element.

import { HttpError } from '../link/http';
import type { Bytes } from '../protocol/bytes';
import { FragmentError } from './opener';
import { pieceAt, type Lane, type Piece } from './timeline';

/** Loaded ahead and behind, seconds; beyond KEEP it is given back to the browser. */
const AHEAD_S = 20;
const BEHIND_S = 4;
const KEEP_S = 60;
/** Fragments in flight per lane. */
const IN_FLIGHT = 3;
/** A fragment the browser dropped is appended again this often. */
const MAX_TRIES = 3;
/** After a failure the archive is asked again. */
const RETRY_MS = 2_000;

export type LoadFragment = (piece: Piece) => Promise<Bytes>;

export type LaneProblem = 'unreachable' | 'damaged' | 'refused';

export class LanePlayer {
  problem: LaneProblem | null = null;
  /** Digests of fragments opened and found right. */
  readonly good = new Set<string>();
  readonly damaged = new Set<string>();
  #media = new MediaSource();
  #url: string;
  #buffer: SourceBuffer | null = null;
  #appended = new Set<string>();
  #tries = new Map<string, number>();
  #flying = new Set<string>();
  #ready: { piece: Piece; plain: Bytes }[] = [];
  #mime = '';
  #retryAt = 0;
  #target = 0;
  #closed = false;

  constructor(
    public lane: Lane,
    readonly element: HTMLMediaElement,
    private length: number,
    private readonly load: LoadFragment,
    private readonly onChange: () => void,
    /** The picture at the playhead is there: time for what else is near. */
    private readonly onSettled: () => void,
  ) {
    this.#url = URL.createObjectURL(this.#media);
    element.src = this.#url;
    this.#media.addEventListener('sourceopen', () => this.#opened(), { once: true });
    element.addEventListener('seeked', () => this.onSettled());
  }

  close(): void {
    this.#closed = true;
    this.element.removeAttribute('src');
    this.element.load();
    URL.revokeObjectURL(this.#url);
  }

  /** More was recorded. */
  grow(lane: Lane, length: number): void {
    this.lane = lane;
    this.length = length;
    this.#pump();
  }

  /** Is this time loaded? */
  has(t: number): boolean {
    const b = this.element.buffered;
    for (let i = 0; i < b.length; i++) if (t >= b.start(i) - 0.01 && t < b.end(i)) return true;
    return false;
  }

  /** A seek is on its way. One to what has been given back since never ends; it does not count. */
  get seeking(): boolean {
    return this.element.seeking && this.has(this.element.currentTime);
  }

  /** Was anything recorded here? */
  covers(t: number): boolean {
    return pieceAt(this.lane, t) !== null;
  }

  /** The playhead was put here. */
  seek(t: number): void {
    this.#target = t;
    // A seek to where nothing is never ends; `#settle` follows when the picture is there.
    const spot = this.#spot(t);
    if (spot !== null) this.element.currentTime = spot;
  }

  /** Where the element has to stand for this time: there, or on the last picture before a small silence. Null: not loaded. */
  #spot(t: number): number | null {
    if (this.has(t)) return t;
    const here = pieceAt(this.lane, t);
    if (!here || !this.#appended.has(here.segment.digest) || this.#buffer?.updating) return null;
    const b = this.element.buffered;
    for (let i = b.length - 1; i >= 0; i--) if (b.end(i) <= t && b.end(i) > here.from) return b.end(i) - 0.001;
    return null;
  }

  /** What is missing at the playhead: whoever waits for it waits for nothing else to be fetched, opened and decoded. */
  get urgent(): Piece | null {
    const here = pieceAt(this.lane, this.#target);
    const id = here?.segment.digest;
    return here?.segment.key && id && !this.#appended.has(id) && !this.damaged.has(id) ? here : null;
  }

  /** Loads around `t`. Cheap when there is nothing to do. */
  want(t: number, now: number): void {
    this.#target = t;
    this.#settle();
    if (this.#closed || now < this.#retryAt) return;
    const here = this.urgent;
    // Decoding up to the playhead goes first too.
    if (!here && this.seeking) return;
    const near = here ? [here] : this.lane.pieces.filter((p) => this.#isNear(p, BEHIND_S, AHEAD_S));
    for (const p of near.sort(this.#soonest)) {
      if (!here && this.#flying.size >= IN_FLIGHT) break;
      const id = p.segment.digest;
      // The browser may give up what it holds when memory is short.
      if (this.#appended.has(id) && !this.#buffer?.updating && !this.has((p.from + p.to) / 2)) this.#again(id);
      if (!p.segment.key || this.#appended.has(id) || this.#flying.has(id) || this.damaged.has(id)) continue;
      this.#flying.add(id);
      void this.#fetch(p);
    }
    this.#pump();
  }

  async #fetch(piece: Piece): Promise<void> {
    const id = piece.segment.digest;
    try {
      const plain = await this.load(piece);
      this.good.add(id);
      this.problem = null;
      this.#ready.push({ piece, plain });
      this.#ready.sort((a, b) => this.#soonest(a.piece, b.piece));
      this.#pump();
    } catch (e) {
      if (e instanceof FragmentError) {
        this.damaged.add(id);
        this.problem = 'damaged';
      } else {
        this.problem = e instanceof HttpError && e.status === 403 ? 'refused' : 'unreachable';
        this.#retryAt = performance.now() + RETRY_MS;
      }
      this.#flying.delete(id);
    }
    this.onChange();
  }

  #opened(): void {
    if (this.#closed) return;
    this.#media.duration = this.length + 1;
    this.#pump();
  }

  /** One step of the buffer at a time: free, then append. */
  #pump(): void {
    if (this.#closed || this.#media.readyState !== 'open') return;
    const next = this.#ready[0];
    if (!this.#buffer) {
      if (!next) return;
      if (!MediaSource.isTypeSupported(next.piece.segment.body.mime)) {
        this.problem = 'damaged';
        return;
      }
      this.#mime = next.piece.segment.body.mime;
      this.#buffer = this.#media.addSourceBuffer(this.#mime);
      this.#buffer.addEventListener('updateend', () => {
        this.#settle();
        this.onChange();
        this.#pump();
        this.onSettled();
      });
    }
    const buffer = this.#buffer;
    if (buffer.updating || this.#free(buffer)) return;
    if (this.#media.duration < this.length) this.#media.duration = this.length + 1;
    if (!next) return;
    this.#ready.shift();
    const { piece, plain } = next;
    this.#flying.delete(piece.segment.digest);
    if (!this.#isNear(piece, KEEP_S, KEEP_S)) {
      this.#pump();
      return;
    }
    try {
      // Ends the fragment before: only then may the offset change.
      buffer.abort();
      if (piece.segment.body.mime !== this.#mime) {
        this.#mime = piece.segment.body.mime;
        buffer.changeType(this.#mime);
      }
      // The length of a fragment's last frame is a guess; it must not cut the key frame of what follows and is there already.
      const following = this.#after(piece);
      if (following) buffer.appendWindowEnd = following.from + 1e-6;
      buffer.timestampOffset = piece.from - piece.segment.body.media_start_ms / 1000;
      buffer.appendBuffer(plain);
      this.#appended.add(piece.segment.digest);
    } catch (e) {
      if ((e as DOMException).name === 'QuotaExceededError') this.#retryAt = performance.now() + RETRY_MS;
      else this.problem = 'damaged';
    }
  }

  #again(id: string): void {
    const tries = this.#tries.get(id) ?? 0;
    if (tries >= MAX_TRIES) return;
    this.#tries.set(id, tries + 1);
    this.#appended.delete(id);
  }

  /** The piece right after this one, if it is in the buffer. */
  #after(piece: Piece): Piece | null {
    const next = this.lane.pieces[this.lane.pieces.findIndex((p) => p.segment.digest === piece.segment.digest) + 1];
    return next && this.#appended.has(next.segment.digest) && next.from - piece.to < 0.25 ? next : null;
  }

  /** A still element goes to the playhead as soon as the picture there is loaded. */
  #settle(): void {
    const e = this.element;
    // While it seeks its time is where it seeks to: a newer wish goes before an older one.
    const spot = e.paused ? this.#spot(this.#target) : null;
    if (spot !== null && Math.abs(e.currentTime - spot) > 0.001) e.currentTime = spot;
  }

  /** Gives far pieces back; true when the buffer is busy with it. */
  #free(buffer: SourceBuffer): boolean {
    const b = buffer.buffered;
    for (let i = 0; i < b.length; i++) {
      const from = b.start(i);
      const to = b.end(i);
      const cut =
        from < this.#target - KEEP_S - 10
          ? [from, Math.min(to, this.#target - KEEP_S)]
          : to > this.#target + KEEP_S + 10
            ? [Math.max(from, this.#target + KEEP_S), to]
            : null;
      if (!cut || cut[1]! - cut[0]! < 0.5) continue;
      for (const p of this.lane.pieces) {
        if (p.to > cut[0]! && p.from < cut[1]!) this.#appended.delete(p.segment.digest);
      }
      buffer.remove(cut[0]!, cut[1]!);
      return true;
    }
    return false;
  }

  /** What is to be seen now, then what follows, then what was before. */
  #soonest = (a: Piece, b: Piece): number => {
    const past = (p: Piece) => Number(p.to <= this.#target);
    return past(a) - past(b) || (past(a) ? b.from - a.from : a.from - b.from);
  };

  #isNear(p: Piece, behind: number, ahead: number): boolean {
    return p.to > this.#target - behind && p.from < this.#target + ahead;
  }
}
