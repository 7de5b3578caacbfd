/**
 * What a spec with one pair of glasses plays on: the programs and a browser, started before its tests and ended after them.
 *
 * Elsewhere: the programs (`programs.ts`), what people do (`people.ts`).
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { type Browser, test } from '@playwright/test';

import { openBrowser } from './people.ts';
import { Programs, root } from './programs.ts';

export interface Stage {
  programs: Programs;
  browser: Browser;
}

/** A folder of its own for a spec's pictures. */
export function folderFor(name: string): string {
  const folder = join(root, 'tests/out', name);
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Filled when the tests begin. */
export function onStage(): Stage {
  const stage: Partial<Stage> = {};
  test.beforeAll(async () => {
    stage.programs = await Programs.start(['helmet-1']);
    stage.browser = await openBrowser();
  });
  test.afterAll(async () => {
    await stage.browser?.close();
    await stage.programs?.stop();
  });
  return stage as Stage;
}
