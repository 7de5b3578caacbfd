// Measures and writes docs/BENCHMARKS.md.
//
// Usage: node tests/bench.mjs [forward] [recorder] [capacity] [flood] [session] [voices] [drawing] [link] [kills], by default all. What is not measured now keeps its
// section of the page. LOTSE_BENCH_ROUNDS of forwarding (5), LOTSE_BENCH_MINUTES of the session (30).
//
// Owns: the page of figures. Never: asserts one.

import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join, resolve } from 'node:path';

import { capacityPage, measureCapacity } from './bench/capacity.mjs';
import { drawingPage } from './bench/drawing.mjs';
import { floodPage, measureFlood } from './bench/flood.mjs';
import { forwardPage, measureForward } from './bench/forward.mjs';
import { killsPage, measureKills } from './bench/kills.mjs';
import { linkPage } from './bench/link.mjs';
import { measureRecorder, recorderPage } from './bench/recorder.mjs';
import { sessionPage, voicesPage } from './bench/session.mjs';

const root = resolve(import.meta.dirname, '..');

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
  link: [() => measureInBrowser('browser/bench-link.ts', 'tests/out/bench/link.json'), linkPage],
  drawing: [() => measureInBrowser('browser/bench-drawing.ts', 'tests/out/bench/drawing.json'), drawingPage],
};

const file = join(root, 'docs/BENCHMARKS.md');
const sections = new Map(
  readFileSync(file, 'utf8')
    .split(/^(?=## )/m)
    .slice(1)
    .map((text) => [text.split('\n', 1)[0], text.trimEnd()]),
);
const asked = process.argv.slice(2);
for (const [name, [measure, page]] of Object.entries(parts)) {
  if (asked.length > 0 && !asked.includes(name)) continue;
  const text = page(measure()).trimEnd();
  sections.set(text.split('\n', 1)[0], text);
}

writeFileSync(
  file,
  `# Figures

Measured by the parts of \`make bench\`, each at its own time and load; nothing here is asserted by a test. Machine: ${cpus().length} × ${cpus()[0].model.trim()}; whatever makes the load shares its cores.

${[...sections.values()].join('\n\n')}
`,
);
console.log(readFileSync(file, 'utf8'));
