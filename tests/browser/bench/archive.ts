/**
 * Reads the archive's own answer out of a downloaded bundle: which picture and which sound lie at which RTP time.
 *
 * Owns: unpacking, decoding by ffmpeg. Never: asks a page. Elsewhere: whether the bundle is true (`lotse-verify`).
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { root } from '../programs.ts';
import { PANEL, type TrackInfo, codeIn } from './watch.ts';

type Found = { hear(x: number, at: number): number | null };
const { Clicks } = (await import(join(root, 'tests/browser/bench/clicks.js'))) as { Clicks: new (rate: number) => Found };

export type Segment = {
  info: TrackInfo;
  media: string;
  init_len: number;
  rtp_start: number;
  rtp_end: number;
  start_us: number;
  missing: number;
  frame_ticks: number[];
  clock: [rtp: number, ntp_us: number, arrival_us: number][];
};
export type Instruction = { id: string; frame: { track: string; rtp: number }; confidence: string };

const DECODED = { maxBuffer: 1 << 30 };

export class Archive {
  readonly segments: Segment[] = [];
  readonly instructions: Instruction[] = [];
  readonly gaps: unknown[] = [];
  #files: Record<string, { file?: string }>;

  constructor(bundle: string, private readonly folder: string) {
    mkdirSync(folder, { recursive: true });
    execFileSync('tar', ['xf', bundle, '-C', folder]);
    this.#files = JSON.parse(readFileSync(join(folder, 'keys.json'), 'utf8')) as Record<string, { file?: string }>;
    for (const line of readFileSync(join(folder, 'log.jsonl'), 'utf8').split('\n')) {
      if (!line) continue;
      const event = JSON.parse((JSON.parse(line) as { author: string }).author) as { id: string; kind: string; item?: string };
      const body = () => JSON.parse(readFileSync(this.#file(event.item!), 'utf8')) as unknown;
      if (event.kind === 'segment') this.segments.push(body() as Segment);
      if (event.kind === 'instruction') this.instructions.push({ ...(body() as Instruction), id: event.id });
      if (event.kind === 'gap') this.gaps.push(body());
    }
    this.segments.sort((a, b) => a.start_us - b.start_us);
  }

  /** Frame numbers of every recorded picture, by unwrapped RTP time. */
  numbers(track: string): Map<number, number | null> {
    const numbers = new Map<number, number | null>();
    const size = PANEL.width * PANEL.height;
    for (const s of this.segments.filter((s) => s.info.track === track)) {
      const crop = `crop=${PANEL.width}:${PANEL.height}:0:${PANEL.y},format=gray`;
      const args = ['-v', 'error', '-i', this.#file(s.media), '-vf', crop, '-fps_mode', 'passthrough', '-f', 'rawvideo', '-'];
      const luma = spawnSync('ffmpeg', args, DECODED).stdout;
      if (luma.length !== s.frame_ticks.length * size) {
        console.log(`fragment ${s.media}: ${luma.length / size} pictures, ${s.frame_ticks.length} in its list; it is left out`);
        continue;
      }
      for (const [i, tick] of s.frame_ticks.entries()) numbers.set(s.rtp_start + tick, codeIn(luma.subarray(i * size, (i + 1) * size)));
    }
    return numbers;
  }

  /** RTP times of the clicks in a voice, of every unbroken run of fragments. */
  clicks(track: string): number[] {
    const found: number[] = [];
    const all = this.segments.filter((s) => s.info.track === track);
    for (let i = 0; i < all.length; ) {
      let k = i + 1;
      while (k < all.length && all[k]!.rtp_start === all[k - 1]!.rtp_end) k++;
      const run = all.slice(i, k);
      i = k;
      // Behind the first fragment the initialisation part is left out: one stream.
      const stream = Buffer.concat(run.map((s, n) => readFileSync(this.#file(s.media)).subarray(n === 0 ? 0 : s.init_len)));
      const pcm = spawnSync('ffmpeg', ['-v', 'error', '-i', '-', '-ac', '1', '-ar', '48000', '-f', 's16le', '-'], { ...DECODED, input: stream }).stdout;
      const samples = new Int16Array(pcm.buffer, pcm.byteOffset, pcm.length >> 1);
      const length = run.at(-1)!.rtp_end - run[0]!.rtp_start;
      if (samples.length !== length) console.log(`a run of ${length} samples decodes to ${samples.length}; its clicks are left out`);
      else {
        const clicks = new Clicks(48_000);
        for (let n = 0; n < samples.length; n++) {
          const at = clicks.hear(samples[n]! / 32_768, n);
          if (at !== null) found.push(run[0]!.rtp_start + at);
        }
      }
    }
    return found;
  }

  #file(digest: string): string {
    const name = this.#files[digest]?.file;
    if (!name) throw new Error(`the bundle has no item ${digest}`);
    return join(this.folder, name);
  }
}

/** The frame number in a picture of the glasses' display, which shows the marked picture at (25, 68), 492x280. */
export function numberOnDisplay(png: string): number | null {
  const crop = `crop=492:280:25:68,scale=1280:720,crop=${PANEL.width}:${PANEL.height}:0:${PANEL.y},format=gray`;
  return codeIn(spawnSync('ffmpeg', ['-v', 'error', '-i', png, '-vf', crop, '-f', 'rawvideo', '-'], DECODED).stdout);
}
