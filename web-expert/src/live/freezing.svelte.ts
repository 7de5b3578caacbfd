// The picture that stands still: which one, and stepping from it through the last 20 seconds.
//
// Owns: the frozen picture and its identity, the list of pictures this page really showed before it. Never: marks, sending.
// Elsewhere: where pixels come from (frames.ts for the first, history.ts for earlier ones).

import { app } from '../app.svelte';
import { timeOf, unwrap } from '../board/frame';
import { localUs } from '../link/clock';
import type { Downlink } from '../link/rtc.svelte';
import { compress, type FrameTap, type Grabbed } from './frames';
import type { FrameHistory } from './history';
import { apart, KEPT_TICKS } from './ring';
import { indexFrom, since } from './steps';

/** The picture is compressed once it has stood for this long, so that Enter does not wait for it. */
const REST_MS = 250;

export interface Frozen extends Grabbed {
  /** Whose picture it is. */
  owner: string;
  track: string;
  /** Unwrapped. */
  frameRtp: number;
  /** Server UTC of the frame, ms; of the freeze where the track has no clock of its own. */
  at_ms: number;
}

export class Freezing {
  now: Frozen | null = $state.raw(null);
  /** The frame is chosen, its pixels are on the way. */
  choosing = $state(false);
  /** Pictures that were on screen up to the freeze, 32-bit RTP, oldest first; empty where none can be shown again. */
  seen: number[] = $state.raw([]);
  /** Which of them is shown. */
  index = $state(0);
  /** A step is being decoded. */
  stepping = $state(false);

  #camera: Downlink | null = null;
  #history: FrameHistory | null = null;
  #first: Frozen | null = null;
  #wanted: number | null = null;
  #picture: { of: Frozen; blob: Promise<Blob | null> } | null = null;
  #rest = 0;

  /** `compressed` is told of each picture that has stood for a while, as soon as it is a file. */
  constructor(private readonly compressed: (picture: Blob) => void) {}

  /** Seconds before the newest picture of the list; 0 for itself. */
  get back_s(): number {
    const newest = this.seen.at(-1);
    return newest !== undefined && this.now ? Math.max(0, apart(newest, this.now.rtp) / 90_000) : 0;
  }

  /** Freezes the frame on screen; false when there is none. The choice is made before this returns. */
  freeze(camera: Downlink | null, tap: FrameTap | null): boolean {
    if (this.now || this.choosing) return true;
    const grabbing = camera && tap?.ready ? tap.grab() : null;
    if (!camera || !tap || !grabbing) return false;
    const painted = tap.painted.map((p) => p.rtp);
    this.#begin(camera);
    void grabbing.then((grabbed) => {
      if (!grabbed || !this.choosing) grabbed?.bitmap.close();
      else {
        this.seen = this.#history ? since(painted, grabbed.rtp, KEPT_TICKS) : [];
        this.index = Math.max(0, this.seen.length - 1);
        this.#show(this.#first = this.#identify(grabbed, camera));
      }
      this.choosing = false;
    });
    return true;
  }

  /** Freezes the picture of this identity that a colleague draws on; `kept` are its pixels, copied here. */
  async freezeAt(camera: Downlink | null, tap: FrameTap | null, frameRtp: number, kept: ImageBitmap): Promise<boolean> {
    if (!camera) return false;
    this.release();
    const painted = tap?.painted.map((p) => p.rtp) ?? [];
    this.#begin(camera);
    const rtp = frameRtp % 2 ** 32;
    const bitmap = await createImageBitmap(kept).catch(() => null);
    if (!bitmap || !this.choosing) {
      bitmap?.close();
      this.release();
      return false;
    }
    const seen = since(painted, painted.at(-1) ?? rtp, KEPT_TICKS);
    this.seen = seen.includes(rtp) ? seen : [];
    this.index = Math.max(0, this.seen.indexOf(rtp));
    this.#show(this.#first = this.#identify({ bitmap, width: bitmap.width, height: bitmap.height, rtp, confidence: 'exact' }, camera));
    this.choosing = false;
    return true;
  }

  /** Goes to another picture of the list; of several wishes while one is decoded only the newest counts. */
  async go(index: number): Promise<void> {
    const to = Math.min(this.seen.length - 1, Math.max(0, index));
    if (!this.now || this.seen.length === 0 || to === this.index) return;
    this.index = to;
    this.#wanted = to;
    if (this.stepping) return;
    this.stepping = true;
    while (this.#wanted !== null && this.now) {
      const rtp = this.seen[this.#wanted]!;
      this.#wanted = null;
      await this.#showSeen(rtp);
    }
    this.stepping = false;
  }

  step(pictures: number): void {
    void this.go(this.index + pictures);
  }

  /** By about this many seconds, to a picture that was seen. */
  seconds(s: number): void {
    const from = this.seen[this.index];
    if (from !== undefined) void this.go(indexFrom(this.seen, from + s * 90_000, this.index, s));
  }

  /** The frozen picture, compressed once. */
  picture(): Promise<Blob | null> {
    const of = this.now;
    if (!of) return Promise.resolve(null);
    if (this.#picture?.of !== of) {
      const blob = compress(of.bitmap).catch(() => null);
      this.#picture = { of, blob };
      void blob.then((b) => b && this.#picture?.of === of && this.compressed(b));
    }
    return this.#picture.blob;
  }

  release(): void {
    clearTimeout(this.#rest);
    if (this.now !== this.#first) this.now?.bitmap.close();
    this.#first?.bitmap.close();
    this.now = this.#first = null;
    this.#picture = null;
    this.choosing = false;
    this.#wanted = null;
    this.seen = [];
    this.#history?.release();
    this.#history = null;
  }

  #begin(camera: Downlink): void {
    this.choosing = true;
    this.#camera = camera;
    this.#history = camera.history;
    this.#history?.hold();
  }

  async #showSeen(rtp: number): Promise<void> {
    const camera = this.#camera;
    if (!camera || this.now?.rtp === rtp) return;
    if (this.#first?.rtp === rtp) {
      this.#show(this.#first);
      return;
    }
    const bitmap = await this.#history?.show(rtp);
    if (!this.now || !bitmap) {
      bitmap?.close();
      // Not to be had: the place goes back to the picture shown.
      if (this.now && this.#wanted === null) this.index = Math.max(0, this.seen.indexOf(this.now.rtp));
      return;
    }
    this.#show(this.#identify({ bitmap, width: bitmap.width, height: bitmap.height, rtp, confidence: 'exact' }, camera));
  }

  #identify(grabbed: Grabbed, camera: Downlink): Frozen {
    const now_us = localUs() + app.link.clock.offset_us;
    const frameRtp = unwrap(grabbed.rtp, camera.info, now_us);
    return { ...grabbed, owner: camera.owner, track: camera.info.track, frameRtp, at_ms: (timeOf(frameRtp, camera.info) ?? now_us) / 1000 };
  }

  #show(frozen: Frozen): void {
    const before = this.now;
    this.now = frozen;
    if (before && before !== this.#first && before !== frozen) before.bitmap.close();
    clearTimeout(this.#rest);
    this.#rest = window.setTimeout(() => void this.picture(), before ? REST_MS : 0);
  }
}
