// The part of docs/BENCHMARKS.md about kills, failing files, and people who come and go: examples kill_loop, fault_loop, join_loop.
//
// Owns: the words around the figures. Never: a figure of its own.

import { spawnSync } from 'node:child_process';
import { loadavg } from 'node:os';
import { join } from 'node:path';

const TIMES = 50;
const SEED = 1;
const JOINS = 2000;

/** Runs one: what it printed, when, and the load before and after. */
function run(root, name, ...words) {
  const before = loadavg()[0];
  const ran = spawnSync(join(root, 'target/debug/examples', name), words.map(String), { encoding: 'utf8' });
  if (ran.status !== 0) throw new Error(`${name} ${words.join(' ')}: ${ran.stderr}`);
  const at = new Date().toISOString().slice(0, 16).replace('T', ' ');
  return { ...JSON.parse(ran.stdout.trim().split('\n').at(-1)), load: [before, loadavg()[0]], at };
}

/** Some 45 minutes. */
export function measureKills(root) {
  return {
    kills: ['server', 'archivist', 'glasses'].map((what) => run(root, 'kill_loop', what, TIMES, SEED)),
    faults: ['server', 'archivist', 'start'].map((what) => run(root, 'fault_loop', what)),
    joins: run(root, 'join_loop', JOINS),
  };
}

const loads = (r) => r.load.map((l) => l.toFixed(1)).join(' to ');
const WHERE = {
  server: 'server, in recorded sessions',
  archivist: 'archivist, in recorded sessions',
  start: 'server, at a first start',
};

export function killsPage({ kills, faults, joins }) {
  const killed = kills.map(
    (r) =>
      `| ${r.killed} | ${r.verified} of ${r.times} | ${[r.lost_ms.p50, r.lost_ms.p95, r.lost_ms.max].map((ms) => ms.toFixed(0)).join(' | ')} ` +
      `| ${r.acknowledged_lost} of ${r.acknowledged} | ${r.seed} | ${loads(r)} |`,
  );
  const failed = faults.map((r) => `| ${WHERE[r.failed_once]} | ${r.first} to ${r.last} | ${r.held} | ${loads(r)} |`);
  const some = joins.rows.filter((_, n) => n % 5 === 0);
  const flat = some.map(
    (r) =>
      `| ${r.joins} | ${r.server.rss_mb.toFixed(1)} | ${r.server.descriptors} | ${r.archivist.rss_mb.toFixed(1)} | ${r.archivist.descriptors} |`,
  );
  return `## Kills

\`kill_loop\`: \`kill -9\` of one program 0.2 to 4 s after the first recorded fragment, at instants drawn from a seed; each kill in a world of its own (real server, archivist,
glasses with the workshop clip and its sound, an expert who talks and writes notes as fast as they are acknowledged). The program starts again, the same session goes on, the recording too;
then the session is ended and the bundle verified. Lost: how far before the kill the glasses' picture or voice, whichever is worse, is kept. ${kills.at(-1).at} UTC, loopback,
development profile.

| killed | verified | lost, ms p50 | p95 | max | acknowledged events lost | seed | load, before to after |
|---|---|---|---|---|---|---|---|
${killed.join('\n')}

## Files that fail

\`fault_loop\`: the n-th change of a file from some moment on (write, sync, truncate, rename, a new file or folder, a removal) fails once, with EIO or ENOSPC in turn. Held: what was refused was
refused with words, the next try was taken, both went on hearing each other, everything acknowledged is in the log, each voice is recorded or declared missing, the case verifies; at a first start: it
ends with words or serves, and the second start serves. ${faults.at(-1).at} UTC.

| of | n | held | load, before to after |
|---|---|---|---|
${failed.join('\n')}

## Joins and leaves

\`join_loop\`: ${joins.joins} times an expert comes on a new live socket into one recorded session, connects media, hears something, leaves and goes, ${joins.at_once} of them beside each other, while two people talk;
${joins.minutes.toFixed(1)} minutes, ${joins.at} UTC, load ${loads(joins)}.

| joins so far | server, MB | its descriptors | archivist, MB | its descriptors |
|---|---|---|---|---|
${flat.join('\n')}
`;
}
