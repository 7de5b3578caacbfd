// Small pictures along the line: one fragment each, opened like any other and drawn once.
//
// Owns: a hidden video element and the object URLs. Never: hurries; playback loads first.

import type { LoadFragment } from './lane';
import { pieceAt, type Lane, type Piece } from './timeline';

/** Pictures along the line at most. */
const MOST = 18;
/** Between two, so that what is played loads first. */
const PAUSE_MS = 250;
const HEIGHT = 52;
/** A fragment that shows nothing within this long is passed over. */
const DRAW_MS = 4_000;

export interface Small {
  /** Seconds on the line, and how many it stands for. */
  at: number;
  wide: number;
  url: string;
}

export class Thumbs {
  list: Small[] = $state.raw([]);
  #closed = false;
  #video = document.createElement('video');

  constructor(lane: Lane, length: number, load: LoadFragment) {
    this.#video.muted = true;
    void this.#run(lane, length, load);
  }

  close(): void {
    this.#closed = true;
    this.#unload();
    for (const s of this.list) URL.revokeObjectURL(s.url);
  }

  /** Whatever it still reads ends before its source does. */
  #unload(): void {
    this.#video.removeAttribute('src');
    this.#video.load();
  }

  async #run(lane: Lane, length: number, load: LoadFragment): Promise<void> {
    const wide = length / MOST;
    for (let i = 0; i < MOST && !this.#closed; i++) {
      const at = i * wide;
      const piece = pieceAt(lane, at) ?? lane.pieces.find((p) => p.from >= at && p.from < at + wide);
      if (!piece?.segment.key) continue;
      await new Promise((r) => setTimeout(r, PAUSE_MS));
      try {
        const from = Math.max(at, piece.from);
        const url = await this.#draw(piece, Math.max(0, from - piece.from), load);
        if (url && !this.#closed) this.list = [...this.list, { at: from, wide: at + wide - from, url }];
      } catch {
        // What cannot be had is told by the player; the line stays plain here.
      }
    }
  }

  async #draw(piece: Piece, into: number, load: LoadFragment): Promise<string | null> {
    const blob = new Blob([await load(piece)], { type: piece.segment.body.mime });
    const source = URL.createObjectURL(blob);
    try {
      const v = this.#video;
      const shown = new Promise<boolean>((resolve) => {
        v.onseeked = () => resolve(true);
        v.onerror = () => resolve(false);
        setTimeout(() => resolve(false), DRAW_MS);
      });
      v.src = source;
      v.currentTime = piece.segment.body.media_start_ms / 1000 + into + 0.01;
      if (!(await shown) || v.videoWidth === 0) return null;
      const canvas = new OffscreenCanvas(Math.round((HEIGHT * v.videoWidth) / v.videoHeight), HEIGHT);
      canvas.getContext('2d')!.drawImage(v, 0, 0, canvas.width, canvas.height);
      return URL.createObjectURL(await canvas.convertToBlob({ type: 'image/webp', quality: 0.7 }));
    } finally {
      this.#unload();
      URL.revokeObjectURL(source);
    }
  }
}
