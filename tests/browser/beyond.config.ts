// A call through real networks; only `beyond.sh` makes them.
import { defineConfig } from '@playwright/test';

export default defineConfig({
  testDir: '.',
  testMatch: 'beyond.ts',
  workers: 1,
  retries: 0,
  // A call takes about twenty seconds here.
  timeout: 120_000,
  expect: { timeout: 30_000 },
  reporter: [['list']],
  outputDir: '../out/beyond-traces',
});
