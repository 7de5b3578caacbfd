// Measures and writes docs/BENCHMARKS.md.
//
// Usage: node tests/bench.mjs [forward] [recorder] [capacity] [flood] [session] [voices] [drawing] [kills], by default all. What is not measured now keeps the figures
// it was measured with last (tests/out/bench). LOTSE_BENCH_ROUNDS of forwarding (5), LOTSE_BENCH_MINUTES of the session (30).
//
// Owns: the page of figures. Never: asserts one.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join, resolve } from 'node:path';

import { capacityPage, measureCapacity } from './bench/capacity.mjs';
import { drawingPage } from './bench/drawing.mjs';
import { floodPage, measureFlood } from './bench/flood.mjs';
import { forwardPage, measureForward } from './bench/forward.mjs';
import { killsPage, measureKills } from './bench/kills.mjs';
import { measureRecorder, recorderPage } from './bench/recorder.mjs';
import { sessionPage, voicesPage } from './bench/session.mjs';

const root = resolve(import.meta.dirname, '..');
const kept = join(root, 'tests/out/bench');
mkdirSync(kept, { recursive: true });

/** Runs one measured test of the browser and reads what it wrote. */
function measureInBrowser(test, figures, more = {}) {
  const run = spawnSync('npx', ['playwright', 'test', '--config', 'bench.config.ts', test], {
    cwd: join(root, 'tests/browser'),
    env: { ...process.env, LOTSE_BENCH_MINUTES: process.env.LOTSE_BENCH_MINUTES ?? '30', ...more },
    stdio: 'inherit',
  });
  if (run.status !== 0) throw new Error(`${test} could not be measured`);
  return JSON.parse(readFileSync(join(root, figures), 'utf8'));
}

/** One session for each way in which a quartz may be off. */
const measureVoices = () =>
  ['100', '-100'].map((ppm) =>
    measureInBrowser('browser/bench.ts', 'tests/out/session/figures.json', { LOTSE_BENCH_PPM: ppm, LOTSE_BENCH_TALKS: '1', LOTSE_BENCH_MARKS: '0', LOTSE_BENCH_SEEKS: '0' }),
  );

const parts = {
  forward: [() => measureForward(root, Number(process.env.LOTSE_BENCH_ROUNDS ?? 5)), forwardPage],
  recorder: [() => measureRecorder(root), recorderPage],
  capacity: [() => measureCapacity(root), capacityPage],
  flood: [() => measureFlood(root), floodPage],
  session: [() => measureInBrowser('browser/bench.ts', 'tests/out/session/figures.json'), sessionPage],
  voices: [measureVoices, voicesPage],
  kills: [() => measureKills(root), killsPage],
  drawing: [() => measureInBrowser('browser/bench-drawing.ts', 'tests/out/bench/drawing.json'), drawingPage],
};

const asked = process.argv.slice(2);
const pages = [];
for (const [name, [measure, page]] of Object.entries(parts)) {
  const file = join(kept, `${name}.json`);
  if (asked.length === 0 || asked.includes(name)) writeFileSync(file, JSON.stringify(measure()));
  if (existsSync(file)) pages.push(page(JSON.parse(readFileSync(file, 'utf8'))));
}

writeFileSync(
  join(root, 'docs/BENCHMARKS.md'),
  `# Figures

Measured by \`make bench\`; nothing here is asserted by a test. Machine: ${cpus().length} × ${cpus()[0].model.trim()}; whatever makes the load shares its cores.

${pages.join('\n')}`,
);
console.log(readFileSync(join(root, 'docs/BENCHMARKS.md'), 'utf8'));
