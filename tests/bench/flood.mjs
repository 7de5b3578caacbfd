// The part of docs/BENCHMARKS.md about floods beside a running session, from the example flood.
//
// Owns: the words around the figures. Never: a figure of its own.

import { spawnSync } from 'node:child_process';
import { loadavg } from 'node:os';
import { join } from 'node:path';

export function measureFlood(root) {
  const load = loadavg()[0];
  const runs = [5, 50].map((times) => {
    const done = spawnSync(join(root, 'target/debug/examples/flood'), ['20', String(times)], { encoding: 'utf8' });
    if (done.status !== 0) throw new Error(`flood: ${done.stderr}`);
    return JSON.parse(done.stdout.trim().split('\n').at(-1));
  });
  return { load, at: new Date().toISOString().slice(0, 16).replace('T', ' '), runs };
}

export function floodPage({ load, at, runs }) {
  const table = ({ times, rows, gaps }) => {
    const quiet = rows[0].pictures_s;
    const line = (r) =>
      `| ${[r.what, r.made === null ? '' : (r.made / r.seconds).toFixed(1), r.pictures_s, ((100 * r.pictures_s) / quiet).toFixed(0), r.longest_gap_ms, r.slowest_note_ms, r.refused, r.server_ms, r.this_ms].join(' | ')} |`;
    return `${times} times the session's own load; ${gaps} gaps in the record:

| | made, 1/s | pictures, 1/s | of the quiet ones, % | longest without one, ms | slowest note, ms | notes refused | server, ms CPU per s | who floods, ms CPU per s |
|---|---|---|---|---|---|---|---|---|
${rows.map(line).join('\n')}
`;
  };
  return `## Floods

Real server, archivist and glasses, one session that is recorded, an expert who watches and writes a note a second; ${runs[0].rows[0].seconds.toFixed(0)} s of each flood, ${at} UTC, load ${load.toFixed(1)} before, loopback, development profile; whoever
floods shares the two cores. Repeat: \`node tests/bench.mjs flood\`. What each flood is stands in \`tests/examples/flood.rs\`.

${runs.map(table).join('\n')}`;
}
