// The picture an expert sees, frame by frame: pixels and RTP time from one object.
//
// Owns: a short ring of the newest VideoFrames and the RTP time the screen shows. Never: keeps a frame longer than a moment.
// Elsewhere: unwrapping to a FrameId (board/frame.ts).

import type { FrameConfidence } from '@bindings/payload';

/** Frames held: the one on screen lags the newest decoded one by one or two; more would starve the decoder's pool. */
const HELD = 4;
/** Painted frames remembered, to step back through: 20 s at 60 a second and a little more. */
const PAINTED = 1_300;

export interface Grabbed {
  bitmap: ImageBitmap;
  width: number;
  height: number;
  /** RTP time as on the wire, 32 bit. */
  rtp: number;
  confidence: FrameConfidence;
}

export interface Painted {
  rtp: number;
  /** When it was to appear, ms of `performance.now()`. */
  at: number;
}

interface Processor {
  readable: ReadableStream<VideoFrame>;
}
type ProcessorCtor = new (init: { track: MediaStreamTrack; maxBufferSize?: number }) => Processor;

interface ShownMetadata extends VideoFrameCallbackMetadata {
  rtpTimestamp?: number;
}

export class FrameTap {
  /** The newest painted frames, oldest first. */
  readonly painted: Painted[] = [];
  #frames: VideoFrame[] = [];
  #clone: MediaStreamTrack | null = null;
  #handle = 0;
  #stopped = false;

  constructor(
    track: MediaStreamTrack,
    private readonly video: HTMLVideoElement,
    private readonly onPaint: (p: Painted) => void,
  ) {
    const Ctor = (globalThis as { MediaStreamTrackProcessor?: ProcessorCtor }).MediaStreamTrackProcessor;
    if (Ctor) {
      // A clone: the element keeps its own.
      this.#clone = track.clone();
      void this.#read(new Ctor({ track: this.#clone, maxBufferSize: 2 }).readable.getReader());
    }
    this.#watch();
    addEventListener('pagehide', this.#leave);
  }

  #leave = (): void => this.stop();

  stop(): void {
    this.#stopped = true;
    removeEventListener('pagehide', this.#leave);
    this.video.cancelVideoFrameCallback?.(this.#handle);
    // Not cancelled: the end of the clone ends the stream, and the reader closes what was still on its way.
    this.#clone?.stop();
    for (const f of this.#frames) f.close();
    this.#frames = [];
  }

  /** Is there a frame to freeze? */
  get ready(): boolean {
    return this.#frames.some((f) => rtpOf(f) !== null) || (this.painted.length > 0 && this.video.videoWidth > 0);
  }

  /** The frame on screen now. The choice is made at once; only copying its pixels takes time. */
  grab(): Promise<Grabbed | null> {
    const shown = this.painted.at(-1);
    const exact = this.#frames.findLast((f) => rtpOf(f) === shown?.rtp) ?? this.#frames.findLast((f) => rtpOf(f) !== null);
    if (exact) return this.#copy(exact.clone());
    return this.#approximate(shown?.rtp);
  }

  async #copy(frame: VideoFrame): Promise<Grabbed | null> {
    const rtp = rtpOf(frame)!;
    try {
      const bitmap = await createImageBitmap(frame);
      return { bitmap, width: bitmap.width, height: bitmap.height, rtp, confidence: 'exact' };
    } catch {
      return null;
    } finally {
      frame.close();
    }
  }

  async #approximate(rtp: number | undefined): Promise<Grabbed | null> {
    if (this.video.videoWidth === 0 || rtp === undefined) return null;
    const bitmap = await createImageBitmap(this.video);
    return { bitmap, width: bitmap.width, height: bitmap.height, rtp, confidence: 'approx' };
  }

  async #read(reader: ReadableStreamDefaultReader<VideoFrame>): Promise<void> {
    for (;;) {
      const { value, done } = await reader.read().catch(() => ({ value: undefined, done: true }));
      if (done || !value) return;
      if (this.#stopped) {
        value.close();
        continue;
      }
      this.#frames.push(value);
      while (this.#frames.length > HELD) this.#frames.shift()?.close();
    }
  }

  #watch(): void {
    if (!this.video.requestVideoFrameCallback) return;
    this.#handle = this.video.requestVideoFrameCallback((_now, m: ShownMetadata) => {
      if (this.#stopped) return;
      if (m.rtpTimestamp !== undefined) {
        const painted = { rtp: m.rtpTimestamp, at: m.expectedDisplayTime };
        this.painted.push(painted);
        if (this.painted.length > PAINTED) this.painted.shift();
        this.onPaint(painted);
      }
      this.#watch();
    });
  }
}

function rtpOf(frame: VideoFrame): number | null {
  const m = (frame as VideoFrame & { metadata?: () => { rtpTimestamp?: number } }).metadata?.();
  return m?.rtpTimestamp ?? null;
}

/** The pixels as a compressed picture of at most `limit` bytes; null when even the smallest is larger. */
export async function compress(bitmap: ImageBitmap, limit = Infinity): Promise<Blob | null> {
  for (const [scale, quality] of [
    [1, 0.86],
    [1, 0.6],
    [0.75, 0.6],
    [0.5, 0.5],
    [0.35, 0.4],
  ] as const) {
    const canvas = new OffscreenCanvas(Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
    canvas.getContext('2d')!.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const blob = await canvas.convertToBlob({ type: 'image/webp', quality });
    // A browser without a WebP encoder gives PNG: too large to send as such.
    const small = blob.type === 'image/webp' ? blob : await canvas.convertToBlob({ type: 'image/jpeg', quality });
    if (small.size <= limit) return small;
  }
  return null;
}

/** The same picture in at most `limit` bytes. */
export async function fitting(picture: Blob, limit: number): Promise<Blob | null> {
  if (picture.size <= limit) return picture;
  const bitmap = await createImageBitmap(picture);
  try {
    return await compress(bitmap, limit);
  } finally {
    bitmap.close();
  }
}
