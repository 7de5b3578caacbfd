// The clock of a replay: the picture leads where there is one, plain time where there is none; voices follow.
//
// Owns: play, pause, speed, seeking, keeping voices within 40 ms. Elsewhere: loading (lane.ts).

import { replayFacts, type ReplayFact } from './facts';
import { LanePlayer, type LaneProblem, type LoadFragment } from './lane';
import { frameAt, nextStart, pieceAt, stepFrame, type Lane, type Timeline } from './timeline';

export const RATES = [0.5, 0.75, 1, 1.25, 1.5, 2] as const;
/** A voice further off than this is corrected by speed, further than JUMP by a jump. */
const DRIFT_S = 0.04;
const JUMP_S = 0.15;
/** The picture is moved to the clock when it is further off than this. */
const PICTURE_S = 0.25;
/** Loading is looked at four times a second. */
const LOAD_MS = 250;

export class Player {
  time = $state(0);
  playing = $state(false);
  rate = $state(1);
  muted = $state(false);
  /** Waiting for the picture to load. */
  waiting = $state(false);
  /** Is there a picture at the playhead? */
  picture = $state(false);
  problem: LaneProblem | null = $state(null);
  loaded = $state(0);
  damaged = $state(0);

  #video: LanePlayer | null = null;
  #voices: LanePlayer[] = [];
  #frame = 0;
  #last = 0;
  #lastLoad = 0;
  #closed = false;

  line: Timeline = $state.raw()!;

  constructor(
    line: Timeline,
    private readonly load: LoadFragment,
  ) {
    this.line = line;
    this.#frame = requestAnimationFrame(this.#tick);
    replayFacts.from(this.#fact);
  }

  get videoLane(): Lane | null {
    return this.line.lanes.find((l) => l.kind === 'video') ?? null;
  }

  useVideo(element: HTMLVideoElement): () => void {
    const lane = this.videoLane;
    if (!lane) return () => {};
    const p = new LanePlayer(lane, element, this.line.length, this.load, () => this.#changed(), this.#loadMore);
    this.#video = p;
    return () => {
      p.close();
      if (this.#video === p) this.#video = null;
    };
  }

  useVoice(lane: Lane, element: HTMLAudioElement): () => void {
    const p = new LanePlayer(lane, element, this.line.length, this.load, () => this.#changed(), this.#loadMore);
    this.#voices.push(p);
    return () => {
      p.close();
      this.#voices = this.#voices.filter((v) => v !== p);
    };
  }

  /** The same session with more of it recorded. */
  grow(line: Timeline): void {
    this.line = line;
    for (const p of [this.#video, ...this.#voices]) {
      const lane = line.lanes.find((l) => l.key === p?.lane.key);
      if (p && lane) p.grow(lane, line.length);
    }
  }

  close(): void {
    this.#closed = true;
    cancelAnimationFrame(this.#frame);
    replayFacts.none(this.#fact);
  }

  play(): void {
    if (this.time >= this.line.length - 0.05) this.seek(0);
    this.playing = true;
  }

  pause(): void {
    this.playing = false;
    this.#still();
  }

  toggle(): void {
    if (this.playing) this.pause();
    else this.play();
  }

  seek(t: number): void {
    this.time = Math.min(this.line.length, Math.max(0, t));
    for (const p of [this.#video, ...this.#voices]) p?.seek(this.time);
    this.#loadMore();
  }

  step(by: 1 | -1): void {
    this.pause();
    const lane = this.videoLane;
    const to = lane ? stepFrame(lane, this.time, by) : null;
    if (to !== null) this.seek(to);
  }

  setRate(rate: number): void {
    this.rate = rate;
  }

  faster(by: 1 | -1): void {
    const i = RATES.indexOf(this.rate as (typeof RATES)[number]);
    this.rate = RATES[Math.min(RATES.length - 1, Math.max(0, i + by))]!;
  }

  #tick = (now: number): void => {
    if (this.#closed) return;
    const dt = this.#last ? Math.min(0.25, (now - this.#last) / 1000) : 0;
    this.#last = now;
    if (this.playing) this.#advance(dt);
    this.#followVideo();
    for (const v of this.#voices) this.#followVoice(v);
    if (now - this.#lastLoad > LOAD_MS) this.#loadMore();
    this.#frame = requestAnimationFrame(this.#tick);
  };

  /** The picture at the playhead first, alone; then what is near, voices too. */
  #loadMore = (): void => {
    const now = performance.now();
    this.#lastLoad = now;
    this.#video?.want(this.time, now);
    if (!this.#video?.urgent && !this.#video?.seeking) for (const v of this.#voices) v.want(this.time, now);
    this.picture = this.#video?.covers(this.time) ?? false;
  };

  #advance(dt: number): void {
    const v = this.#video;
    const covered = v?.covers(this.time) ?? false;
    const loaded = covered && (v?.has(this.time) ?? false);
    this.waiting = covered && !loaded && !this.#isSilence();
    if (this.waiting) return;
    const e = v?.element;
    if (loaded && e && !e.paused && !v!.seeking && Math.abs(e.currentTime - this.time) < PICTURE_S) {
      // Never backwards: the element may report a moment before the one shown.
      this.time = Math.max(this.time, e.currentTime);
    } else if (!loaded || !v!.seeking) {
      this.time += dt * this.rate;
    }
    if (this.time >= this.line.length) {
      this.time = this.line.length;
      this.pause();
    }
  }

  /** A small silence between two fragments is passed, not waited for. */
  #isSilence(): boolean {
    const lane = this.videoLane;
    const p = lane && pieceAt(lane, this.time);
    return p !== null && p !== undefined && this.time >= p.to - 0.12 && (nextStart(lane!, this.time) ?? Infinity) > this.time;
  }

  #followVideo(): void {
    const v = this.#video;
    if (!v) return;
    const e = v.element;
    const here = v.has(this.time);
    if (this.playing && here && !this.waiting) {
      if (e.playbackRate !== this.rate) e.playbackRate = this.rate;
      if (!v.seeking && Math.abs(e.currentTime - this.time) > PICTURE_S) e.currentTime = this.time;
      if (e.paused) {
        if (Math.abs(e.currentTime - this.time) > 0.02) e.currentTime = this.time;
        void e.play().catch(() => {});
      }
    } else if (!e.paused) e.pause();
  }

  #followVoice(v: LanePlayer): void {
    const e = v.element;
    e.muted = this.muted;
    if (!this.playing || this.waiting || !v.has(this.time)) {
      if (!e.paused) e.pause();
      return;
    }
    if (v.seeking) return;
    const drift = e.currentTime - this.time;
    if (e.paused) {
      e.currentTime = this.time;
      e.playbackRate = this.rate;
      void e.play().catch(() => {});
    } else if (Math.abs(drift) > JUMP_S) e.currentTime = this.time;
    else if (Math.abs(drift) > DRIFT_S) e.playbackRate = this.rate * (drift > 0 ? 0.94 : 1.06);
    else if (Math.abs(drift) < DRIFT_S / 3 && e.playbackRate !== this.rate) e.playbackRate = this.rate;
    // Between a third and the whole of the bound a running correction goes on.
  }

  #still(): void {
    for (const p of [this.#video, ...this.#voices]) p?.element.pause();
    // The clock stands where the picture stands.
    const e = this.#video?.element;
    if (e && this.#video?.has(this.time) && Math.abs(e.currentTime - this.time) < PICTURE_S) this.time = e.currentTime;
  }

  #fact = (): ReplayFact => {
    const e = this.#video?.element;
    const here = this.videoLane && frameAt(this.videoLane, this.time);
    return {
      time: this.time,
      element: e?.currentTime ?? null,
      seeking: e?.seeking ?? false,
      frame: here?.frame ?? null,
      frame_start: here?.from ?? null,
      next_frame_start: here?.next ?? null,
    };
  };

  #changed(): void {
    const all = [this.#video, ...this.#voices].filter((p): p is LanePlayer => p !== null);
    this.loaded = all.reduce((n, p) => n + p.good.size, 0);
    this.damaged = all.reduce((n, p) => n + p.damaged.size, 0);
    this.problem = all.map((p) => p.problem).find((p) => p !== null) ?? null;
  }
}
