// The measured session: `npm run bench`, or `make bench`. One worker, no retry: a figure is measured once.
import { defineConfig } from '@playwright/test';

export default defineConfig({
  testDir: '.',
  testMatch: ['bench.ts', 'bench-drawing.ts', 'bench-link.ts'],
  workers: 1,
  retries: 0,
  // The session's own length and as much again for reading its archive, and an hour for the slowest machine.
  timeout: 3_600_000 + 2 * 60_000 * Number(process.env['LOTSE_BENCH_MINUTES'] ?? 30),
  expect: { timeout: 30_000 },
  reporter: [['list']],
  outputDir: '../out/bench-traces',
});
