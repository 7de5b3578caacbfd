/**
 * Watches a page from inside: pictures painted, clicks heard, keys pressed, all in the server's UTC, ms.
 *
 * Owns: what is added to a measured page. Never: changes what the page does; it reads `window.lotse`, media elements and
 * events. Elsewhere: people (`people.ts`), what the numbers mean (`figures.ts`).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Locator, Page } from '@playwright/test';

import { spec } from '../pictures.ts';
import { root } from '../programs.ts';

export type TrackInfo = { track: string; source: string; codec: string; rtp_base?: number; start_us?: number; clock_offset_us: number };
type Reader = (of: typeof spec, width: number, luma: (x: number, y: number) => number) => { frame: number; flash: boolean } | null;
const { read } = (await import(join(root, 'tests/footage/barcode.mjs'))) as { read: Reader };

/** The part of the clip's picture with the bar code, and what stands in it. */
export const PANEL = { width: 240, height: 64, y: 656 };
export const codeIn = (luma: ArrayLike<number>) =>
  read(spec, spec.picture.width, (x, y) => luma[(y - PANEL.y) * PANEL.width + x] ?? 0)?.frame ?? null;

/** By how much the server's clock and the machine's are ahead of the page's; the second is read in whole milliseconds. */
export type ClockSample = { offset_ms: number; wall_ms: number };

/** The facts of the page that this folder uses, and what `inject` adds. */
interface Bench {
  pressed: number[];
  /** When the first sample of a click was taken for playing. */
  heard: number[];
  listen(): Promise<number>;
  peers: RTCPeerConnection[];
  utc(at: number): number;
  luma(of: HTMLElement): number[];
}
/** Sums over all samples played: seconds times samples. */
type Playout = { type: string; totalPlayoutDelay: number; totalSamplesCount: number };
interface Sound {
  MediaStreamTrackProcessor: new (init: { track: MediaStreamTrack }) => { readable: ReadableStream<AudioData> };
  Clicks: new (rate: number) => { hear(x: number, at: number): number | null };
}
export type Measured = Window & {
  lotse: {
    painted(): [number, number][];
    clock_offset_us(): number;
    replay(): { time: number; frame: { track: string; rtp: number } | null; frame_start: number; next_frame_start: number } | null;
  };
  bench: Bench;
};

export class Watch {
  /** As the server's offers announced them. */
  readonly tracks = new Map<string, TrackInfo>();
  /** Unwrapped RTP time → when it was to appear. */
  readonly painted = new Map<number, number>();
  /** When the first samples of clicks were taken for playing. */
  readonly heard: number[] = [];
  /** What Chromium measures between taking a sample for playing and its sound. */
  latency_ms = 0;
  readonly clocks: ClockSample[] = [];

  constructor(private readonly page: Page) {}

  static async on(page: Page): Promise<Watch> {
    const watch = new Watch(page);
    page.on('websocket', (socket) =>
      socket.on('framereceived', ({ payload }) => {
        const text = payload.toString();
        if (!text.includes('"rtc_offer"')) return;
        const { offer } = JSON.parse(text) as { offer: { downlink: { info: TrackInfo }[] } };
        for (const { info } of offer.downlink) watch.tracks.set(info.track, info);
      }),
    );
    await page.addInitScript({ content: readFileSync(join(import.meta.dirname, 'clicks.js'), 'utf8').replace('export class', 'globalThis.Clicks = class') });
    await page.addInitScript(inject, PANEL);
    return watch;
  }

  track(source: string): TrackInfo {
    const found = [...this.tracks.values()].find((t) => t.source === source && t.rtp_base !== undefined);
    if (!found) throw new Error(`no ${source} was offered by the glasses`);
    return found;
  }

  /** From now on clicks in the voices are told. */
  async listen(): Promise<void> {
    this.latency_ms = await this.page.evaluate(() => (window as unknown as Measured).bench.listen());
  }

  /** Takes over what the page has gathered; often enough, because it keeps 300 pictures only. */
  async collect(): Promise<void> {
    const got = await this.page.evaluate(() => {
      const { lotse, bench } = window as unknown as Measured;
      const now = performance.timeOrigin + performance.now();
      return { painted: lotse.painted(), heard: bench.heard.splice(0), clock: { offset_ms: lotse.clock_offset_us() / 1000, wall_ms: Date.now() + 0.5 - now } };
    });
    for (const [rtp, at] of got.painted) this.painted.set(rtp, at);
    this.heard.push(...got.heard);
    this.clocks.push(got.clock);
  }

  /** When Enter was last pressed. */
  pressed(): Promise<number> {
    return this.page.evaluate(() => (window as unknown as Measured).bench.pressed.at(-1)!);
  }

  /** What the browser counted for the picture and the voice. */
  async stats(): Promise<Record<string, Record<string, number>>> {
    return this.page.evaluate(async () => {
      const out: Record<string, Record<string, number>> = {};
      for (const peer of (window as unknown as Measured).bench.peers) {
        if (peer.connectionState !== 'connected') continue;
        for (const s of (await peer.getStats()).values() as Iterable<Record<string, string & number>>)
          if (s['type'] === 'inbound-rtp' && (s['framesDecoded'] ?? s['concealedSamples']) !== undefined)
            out[`${s['kind']} ${s['mid']}`] = Object.fromEntries(Object.entries(s).filter(([, v]) => typeof v === 'number')) as Record<string, number>;
      }
      return out;
    });
  }
}

/** The frame number that an element shows now. */
export async function numberOn(element: Locator): Promise<number | null> {
  return codeIn(await element.evaluate((e: HTMLElement) => (window as unknown as Measured).bench.luma(e)));
}

/** Runs in the page before its own scripts. */
function inject(panel: typeof PANEL): void {
  const peers: RTCPeerConnection[] = [];
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...a: ConstructorParameters<typeof RTCPeerConnection>) {
      super(...a);
      peers.push(this);
    }
  };
  /** Reads a voice block by block as the player takes it, which is stamped with that moment. */
  async function hear(track: MediaStreamTrack): Promise<void> {
    const { MediaStreamTrackProcessor: Processor, Clicks } = globalThis as unknown as Sound;
    const reader = new Processor({ track: track.clone() }).readable.getReader();
    const clicks = new Clicks(48_000);
    const samples = new Float32Array(4_800);
    // The stamp's zero is not the page's: the quickest block of all tells the distance.
    let zero = Infinity;
    for (let n = 0; ; ) {
      const { value: block, done } = await reader.read();
      if (done || !block) return;
      const stamp = block.timestamp / 1000;
      zero = Math.min(zero, performance.now() - stamp);
      const length = block.numberOfFrames;
      block.copyTo(samples.subarray(0, length), { planeIndex: 0, format: 'f32-planar' });
      block.close();
      for (let i = 0; i < length; i++) {
        const found = clicks.hear(samples[i]!, n + i);
        if (found !== null) bench.heard.push(bench.utc(stamp + zero + (found - n) / 48));
      }
      n += length;
    }
  }
  const canvas = new OffscreenCanvas(panel.width, panel.height);
  const context = canvas.getContext('2d', { willReadFrequently: true })!;
  const bench: Bench = {
    peers,
    pressed: [],
    heard: [],
    async listen() {
      const known = new Set<string>();
      setInterval(() => {
        for (const element of document.querySelectorAll('audio')) {
          const track = (element.srcObject as MediaStream | null)?.getAudioTracks()[0];
          if (!track || known.has(track.id)) continue;
          known.add(track.id);
          void hear(track);
        }
      }, 500);
      await new Promise((done) => setTimeout(done, 2_000));
      for (const peer of peers)
        for (const s of (await peer.getStats()).values() as Iterable<Playout>)
          if (s.type === 'media-playout' && s.totalSamplesCount > 0) return (s.totalPlayoutDelay / s.totalSamplesCount) * 1000;
      throw new Error('no voice is played');
    },
    utc: (at) => performance.timeOrigin + at + (window as unknown as Measured).lotse.clock_offset_us() / 1000,
    luma(of) {
      const source = of as HTMLVideoElement & HTMLImageElement & HTMLCanvasElement;
      const width = source.videoWidth || source.naturalWidth || source.width;
      const scale = width / 1280;
      context.drawImage(source, 0, panel.y * scale, panel.width * scale, panel.height * scale, 0, 0, panel.width, panel.height);
      const { data } = context.getImageData(0, 0, panel.width, panel.height);
      return Array.from({ length: data.length / 4 }, (_, i) => data[4 * i + 1]!);
    },
  };
  (window as unknown as { bench: Bench }).bench = bench;
  addEventListener('keydown', (e) => e.key === 'Enter' && bench.pressed.push(bench.utc(e.timeStamp)), true);
}
