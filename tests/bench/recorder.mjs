// The part of docs/BENCHMARKS.md about what recording costs, from the example bench_recorder.
//
// Owns: the words around the figures. Never: a figure of its own.

import { spawnSync } from 'node:child_process';
import { loadavg } from 'node:os';
import { join } from 'node:path';

/** Runs it: some five minutes. The figures as the program printed them, and the load before it. */
export function measureRecorder(root) {
  const load = loadavg()[0];
  const run = spawnSync(join(root, 'target/debug/examples/bench_recorder'), [], { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(`bench_recorder: ${run.stderr}`);
  return { ...JSON.parse(run.stdout.trim().split('\n').at(-1)), load, at: new Date().toISOString().slice(0, 16).replace('T', ' ') };
}

/** Median of the windows, lowest and highest in brackets. */
const spread = (windows, of, digits) => {
  const sorted = windows.map(of).sort((a, b) => a - b);
  const say = (v) => v.toFixed(digits);
  return `${say(sorted[Math.floor(sorted.length / 2)])} (${say(sorted[0])} to ${say(sorted.at(-1))})`;
};

export function recorderPage(r) {
  const rows = r.runs.map(({ viewers, windows }) => {
    const cells = [
      spread(windows, (w) => w.archivist_ms, 1),
      spread(windows, (w) => (1000 * w.archivist_ms) / w.recorded_kbit, 1),
      spread(windows, (w) => w.archivist_mb, 1),
      spread(windows, (w) => w.recorded_kbit / 1000, 2),
      spread(windows, (w) => w.server_ms, 0),
      spread(windows, (w) => w.server_mb, 0),
      spread(windows, (w) => w.viewers_ms, 0),
    ];
    return `| ${viewers} | ${cells.join(' | ')} |`;
  });
  return `## Recorder

One session, recorded throughout: real server, archivist and glasses (the workshop clip with its sound), first with 1 expert who watches, then with more, each with a login
and a WebRTC leg of their own. ${r.runs[0].windows.length} windows of ${r.runs[0].seconds} s each, one round of the clip; ${r.at} UTC, load ${r.load.toFixed(1)} before it, loopback, development profile. CPU time by /proc, user
and system; 1000 ms a second are one core.

| Viewers | archivist, ms CPU per s recorded | µs per kbit recorded | its memory, MB | recorded, Mbit/s | server, ms CPU per s | its memory, MB | all viewers, ms CPU per s |
|---|---|---|---|---|---|---|---|
${rows.join('\n')}

${r.fragments} fragments were written, ${r.gaps} gaps declared; the viewers with the fewest and the most packets got ${Math.min(...r.runs.at(-1).windows.map((w) => w.viewer_packets_min))} to ${Math.max(...r.runs.at(-1).windows.map((w) => w.viewer_packets_max))} a second.
`;
}
