// Build and test settings of the pages. The development server hands API, live socket and archive through to a running lotse-server.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { fileURLToPath } from 'node:url';
import { budget } from './budget.ts';
import { licences } from './licences.ts';
import { defineConfig } from 'vitest/config';

const server = process.env.LOTSE_SERVER ?? 'http://127.0.0.1:8080';
// The server wants its own origin on the live socket and on posts.
const handThrough = { target: server, ws: true, changeOrigin: true, headers: { origin: server } };

export default defineConfig({
  plugins: [svelte(), licences(), budget()],
  resolve: {
    alias: { '@bindings': fileURLToPath(new URL('../server/protocol/bindings', import.meta.url)) },
    conditions: process.env.VITEST ? ['browser'] : undefined,
  },
  server: {
    proxy: { '/api': handThrough, '/archive': handThrough },
    fs: { allow: ['..'] },
  },
  worker: { format: 'es' },
  build: { target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  test: { include: ['src/**/*.test.ts'], environment: 'node', testTimeout: 30_000 },
});
