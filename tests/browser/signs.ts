/**
 * Signs that something reached somebody: sound out of a page, bytes on the archivist's disk.
 *
 * Elsewhere: what is on a picture (`pictures.ts`), what can be measured on a page (`checks.ts`).
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

import type { Page } from '@playwright/test';

import type { Programs } from './programs.ts';

/** Does any sound come out of the page? Asks the media elements, which carry the voices. */
export function hears(page: Page): Promise<boolean> {
  return page.evaluate(async () => {
    const context = new AudioContext();
    let loudest = 0;
    for (const element of document.querySelectorAll<HTMLMediaElement>('audio, video')) {
      const live = element.srcObject as MediaStream | null;
      const stream =
        live ?? (element as HTMLMediaElement & { captureStream(): MediaStream }).captureStream();
      if (stream.getAudioTracks().length === 0) continue;
      const analyser = context.createAnalyser();
      context.createMediaStreamSource(stream).connect(analyser);
      const samples = new Float32Array(analyser.fftSize);
      for (let i = 0; i < 20; i++) {
        await new Promise((done) => setTimeout(done, 50));
        analyser.getFloatTimeDomainData(samples);
        loudest = Math.max(loudest, ...samples.map(Math.abs));
      }
    }
    await context.close();
    return loudest > 0.01;
  });
}

/** Bytes of media fragments on the archivist's disk, of one case or of all. */
export function mediaBytes(programs: Programs, ofCase = ''): number {
  const count = (folder: string): number =>
    readdirSync(folder, { withFileTypes: true }).reduce((sum, entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return sum + count(path);
      return path.includes(ofCase) && /fragments/.test(path) ? sum + statSync(path).size : sum;
    }, 0);
  return count(join(programs.folder, 'archivist'));
}
