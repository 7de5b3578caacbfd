// Real Chromium against the real programs. One worker: two cores carry server, archivist, two pairs of glasses and a browser.
import { defineConfig } from '@playwright/test';

export default defineConfig({
  testDir: '.',
  testMatch: process.env['LOTSE_GALLERY'] ? 'gallery*.ts' : '*.spec.ts',
  workers: 1,
  retries: 0,
  // The story takes about two minutes here; a cold, busy machine gets five times that.
  timeout: 600_000,
  expect: { timeout: 30_000 },
  reporter: [['list']],
  outputDir: '../out/browser',
  use: {
    locale: 'en-GB',
    viewport: { width: 1440, height: 900 },
    screenshot: 'only-on-failure',
    trace: 'off',
  },
});
