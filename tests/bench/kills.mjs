// The part of docs/BENCHMARKS.md about what a kill costs, from the example kill_loop.
//
// Owns: the words around the figures. Never: a figure of its own.

import { spawnSync } from 'node:child_process';
import { loadavg } from 'node:os';
import { join } from 'node:path';

const TIMES = 50;
const SEED = 1;

/** Kills each program: some 25 minutes. What the program printed, and the load before and after. */
export function measureKills(root) {
  return ['server', 'archivist', 'glasses'].map((what) => {
    const before = loadavg()[0];
    const run = spawnSync(join(root, 'target/debug/examples/kill_loop'), [what, TIMES, SEED].map(String), { encoding: 'utf8' });
    if (run.status !== 0) throw new Error(`kill_loop ${what}: ${run.stderr}`);
    const at = new Date().toISOString().slice(0, 16).replace('T', ' ');
    return { ...JSON.parse(run.stdout.trim().split('\n').at(-1)), load: [before, loadavg()[0]], at };
  });
}

export function killsPage(runs) {
  const rows = runs.map(
    (r) =>
      `| ${r.killed} | ${r.verified} of ${r.times} | ${[r.lost_ms.p50, r.lost_ms.p95, r.lost_ms.max].map((ms) => ms.toFixed(0)).join(' | ')} ` +
      `| ${r.acknowledged_lost} of ${r.acknowledged} | ${r.seed} | ${r.load.map((l) => l.toFixed(1)).join(' to ')} |`,
  );
  return `## Kills

\`kill_loop\`: \`kill -9\` of one program 0.2 to 4 s after the first recorded fragment, at instants drawn from a seed; each kill in a world of its own (real server, archivist,
glasses with the workshop clip and its sound, an expert who talks and writes notes as fast as they are acknowledged). The program starts again, the same session goes on, the recording too;
then the session is ended and the bundle verified. Lost: how far before the kill the glasses' picture or voice, whichever is worse, is kept. ${runs.at(-1).at} UTC, loopback,
development profile.

| killed | verified | lost, ms p50 | p95 | max | acknowledged events lost | seed | load, before to after |
|---|---|---|---|---|---|---|---|
${rows.join('\n')}
`;
}
