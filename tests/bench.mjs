// Measures and writes docs/BENCHMARKS.md. Usage: node tests/bench.mjs [rounds of forwarding] [minutes of the session], by default 5 and 30.
// With 0 minutes the page takes over the session and the recorder measured last.
//
// Owns: the page of figures. Never: asserts one.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { dirname, join, resolve } from 'node:path';

import { measureRecorder, recorderPage } from './bench/recorder.mjs';
import { sessionPage } from './bench/session.mjs';

const root = resolve(import.meta.dirname, '..');
const rounds = Number(process.argv[2] ?? 5);
const minutes = Number(process.argv[3] ?? 30);
const viewers = [10, 100];

const round = () => {
  const run = spawnSync(join(root, 'target/debug/examples/bench_forward'), [viewers.join(',')], { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(`bench_forward: ${run.stderr}`);
  return JSON.parse(run.stdout.trim().split('\n').at(-1)).runs;
};

const load = loadavg()[0];
const all = Array.from({ length: rounds }, round);

/** Median, lowest and highest of one figure over the rounds. */
const spread = (n, key, digits) => {
  const sorted = all.map((runs) => runs.find((r) => r.viewers === n)[key]).sort((a, b) => a - b);
  const say = (v) => v.toFixed(digits);
  return `${say(sorted[Math.floor(sorted.length / 2)])} (${say(sorted[0])} to ${say(sorted.at(-1))})`;
};

const rows = viewers.map(
  (n) =>
    `| ${n} | ${spread(n, 'cpu_us_per_packet', 2)} | ${spread(n, 'latency_p50_ms', 2)} | ${spread(n, 'latency_p99_ms', 2)} | ${spread(n, 'delivered_pct', 1)} |`,
);

const measured = join(root, 'tests/out/session/figures.json');
if (minutes > 0) {
  const run = spawnSync('npx', ['playwright', 'test', '--config', 'bench.config.ts'], {
    cwd: join(root, 'tests/browser'),
    env: { ...process.env, LOTSE_BENCH_MINUTES: String(minutes) },
    stdio: 'inherit',
  });
  if (run.status !== 0) throw new Error('the session could not be measured');
}
const session = existsSync(measured) ? sessionPage(JSON.parse(readFileSync(measured, 'utf8'))) : '';

const recorded = join(root, 'tests/out/bench/recorder.json');
if (minutes > 0 || !existsSync(recorded)) {
  mkdirSync(dirname(recorded), { recursive: true });
  writeFileSync(recorded, JSON.stringify(measureRecorder(root)));
}

writeFileSync(
  join(root, 'docs/BENCHMARKS.md'),
  `# Figures

Measured by \`make bench\`; nothing here is asserted by a test. Median of ${rounds} rounds, lowest to highest in brackets.
Machine: ${cpus().length} × ${cpus()[0].model.trim()}, load ${load.toFixed(1)} at the start. The loader shares its cores.

## Forwarding

One publisher of 2 Mbit/s in bursts of 30 frames a second, AES-128-GCM, loopback, 8 s a round, development profile.

| Viewers | CPU per packet, µs | delay p50, ms | delay p99, ms | delivered, % |
|---|---|---|---|---|
${rows.join('\n')}

${recorderPage(JSON.parse(readFileSync(recorded, 'utf8')))}
${session}`,
);
console.log(rows.join('\n'));
