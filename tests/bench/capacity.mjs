// The part of docs/BENCHMARKS.md about how many sessions one machine holds, from the example capacity.
//
// Owns: the words around the figures, and what "holds" means. Never: a figure of its own.

import { spawnSync } from 'node:child_process';
import { loadavg } from 'node:os';
import { join } from 'node:path';

/** Sessions tried for a minute each, and how long the largest number that held is tried again, s. */
const TRIED = process.env.LOTSE_BENCH_SESSIONS ?? '5,10,20,30,40,60';
const LONG_S = Number(process.env.LOTSE_BENCH_CAPACITY_SECONDS ?? 600);
/** Share of the time in which a picture may stand still. */
const FROZEN = 0.005;

const run = (root, sessions, seconds) => {
  const done = spawnSync(join(root, 'target/debug/examples/capacity'), [sessions, String(seconds)], { encoding: 'utf8', maxBuffer: 1 << 28 });
  const rows = (done.stdout ?? '').trim().split('\n').filter(Boolean).map((line) => JSON.parse(line));
  // A number that cannot even begin ends the program; what was measured before it stands.
  return { film: rows[0]?.film, rows: rows.slice(1), trouble: done.status === 0 ? '' : done.stderr.trim().split('\n').at(-1) };
};

export const holds = (row) => row.frozen_mean <= FROZEN && row.dropped === 0 && row.refused === 0 && row.gaps_s === 0;

export function measureCapacity(root) {
  const load = loadavg()[0];
  const short = run(root, TRIED, 60);
  const most = short.rows.filter(holds).at(-1)?.sessions;
  const long = most ? run(root, String(most), LONG_S) : { rows: [] };
  return { load, at: new Date().toISOString().slice(0, 16).replace('T', ' '), film: short.film, short: short.rows, trouble: short.trouble, long: long.rows[0] ?? null };
}

export function capacityPage(c) {
  const percent = (x) => (100 * x).toFixed(2);
  const row = (r) =>
    `| ${[
      r.sessions,
      r.seconds.toFixed(0),
      holds(r) ? 'yes' : 'no',
      `${percent(r.frozen_mean)} (${percent(r.frozen_worst)})`,
      r.dropped + r.refused,
      r.slowest_note_ms,
      r.gaps_s,
      (r.server_ms / 10).toFixed(0),
      (r.archivist_ms / 10).toFixed(0),
      (r.clients_ms / 10).toFixed(0),
      `${(r.server_ms / r.sessions).toFixed(1)} + ${(r.archivist_ms / r.sessions).toFixed(1)}`,
      `${r.server_mb} + ${r.archivist_mb}`,
    ].join(' | ')} |`;
  return `## Capacity

Sessions of one publisher (a film of ${c.film.pictures} pictures and ${c.film.seconds.toFixed(0)} s that real glasses encoded, ${(c.film.bit_s / 1e6).toFixed(2)} Mbit/s, and a voice) and three viewers, all recorded, a note a second in each; real server and
archivist on one machine with every client; ${c.at} UTC, load ${c.load.toFixed(1)} before, loopback, development profile. Repeat: \`node tests/bench.mjs capacity\`. A number holds when pictures stand still for at most
0.5 % of the time (mean of all viewers; the worst one in brackets), no note is dropped or refused, and nothing recorded is missing.

| Sessions | s | holds | frozen, % | notes dropped or refused | slowest note, ms | missing in the record, s | server, % of a core | archivist | clients | ms CPU a second and session, server + archivist | MB |
|---|---|---|---|---|---|---|---|---|---|---|---|
${[...c.short, ...(c.long ? [c.long] : [])].map(row).join('\n')}
${c.trouble ? `\nAfter these the program ended: ${c.trouble}\n` : ''}
The clients of this bench decrypt everything on the same two cores; a machine of its own would give their share to the server.
`;
}
