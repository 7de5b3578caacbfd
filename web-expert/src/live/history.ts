// The last 20 seconds of one camera: the page's side of the worker that keeps them.
//
// Owns: attaching to the receiver, asking for one picture. Never: holds pixels. Elsewhere: what is kept (ring.ts).

import type { TrackInfo } from '@bindings/signal';
import type { HistoryAsk, HistoryReply } from './history.worker';
import HistoryWorker from './history.worker?worker';

/** A picture that takes longer is given up; decoding ten seconds takes about one on a slow machine. */
const SHOW_TIMEOUT_MS = 10_000;

export class FrameHistory {
  /** Bytes of encoded pictures kept, as of the last answer. */
  bytes = 0;
  #worker = new HistoryWorker();
  #track = '';
  #next = 1;
  #waiting = new Map<number, (bitmap: ImageBitmap | null) => void>();

  private constructor() {
    this.#worker.onmessage = ({ data }: MessageEvent<HistoryReply>) => {
      this.bytes = data.bytes;
      const waits = this.#waiting.get(data.n);
      this.#waiting.delete(data.n);
      if (waits) waits(data.bitmap);
      else data.bitmap?.close();
    };
  }

  /** Must be called while the track is announced: later the browser lets pictures pass by. Null where it cannot be done. */
  static on(receiver: RTCRtpReceiver, info: TrackInfo): FrameHistory | null {
    if (!('RTCRtpScriptTransform' in globalThis) || !('VideoDecoder' in globalThis)) return null;
    const history = new FrameHistory();
    history.use(info);
    receiver.transform = new RTCRtpScriptTransform(history.#worker);
    return history;
  }

  /** Which track is on the line now; of another one what was kept is dropped. */
  use(info: TrackInfo): void {
    if (info.track === this.#track) return;
    this.#track = info.track;
    this.#ask({ t: 'codec', codec: info.codec });
  }

  /** From now on the pictures of this moment stay, until `release`. */
  hold(): void {
    this.#ask({ t: 'hold' });
  }

  release(): void {
    this.#ask({ t: 'release' });
  }

  /** The picture of this RTP time (32 bit), decoded from the very bytes that were seen; null when it is gone. */
  show(rtp: number): Promise<ImageBitmap | null> {
    const n = this.#next++;
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#waiting.delete(n) && resolve(null), SHOW_TIMEOUT_MS);
      this.#waiting.set(n, (bitmap) => {
        clearTimeout(timer);
        resolve(bitmap);
      });
      this.#ask({ t: 'show', n, rtp });
    });
  }

  close(): void {
    this.#worker.terminate();
    for (const done of this.#waiting.values()) done(null);
    this.#waiting.clear();
  }

  #ask(ask: HistoryAsk): void {
    this.#worker.postMessage(ask);
  }
}
