// The part of docs/BENCHMARKS.md about forwarding, from the example bench_forward: ours, Debian's Janus, and the least there is to do.
//
// Owns: the rounds, taken in turns so that all meet the same load, and the words around the figures. Never: a figure of its own.

import { spawnSync } from 'node:child_process';
import { loadavg } from 'node:os';
import { join } from 'node:path';

// Janus offers no loopback address: a cable that leads nowhere, in a network namespace that ends with the run, has one it takes.
const NAMESPACE = `ip link set lo up
ip link add inside type veth peer name outside
ip addr add 10.99.0.1/24 dev inside
ip link set inside up
ip link set outside up
LOTSE_BENCH_IP=10.99.0.1 exec "$@"`;

const RUNS = [
  ['probe'],
  ...['burst', 'even'].flatMap((pace) => [['ours', 10, pace], ['ours', 100, pace], ['janus1', 100, pace]]),
  ['janus1', 10, 'burst'],
  ['janus', 100, 'burst'],
  // As many viewers in four rooms, on one worker and on two: what a core more gives.
  ['ours', 25, 'burst', 4, 1],
  ['ours', 25, 'burst', 4, 2],
];

/** Each run in each round; all figures as the program printed them, and the load before. */
export function measureForward(root, rounds, seconds = 8) {
  const program = join(root, 'target/debug/examples/bench_forward');
  const root_first = process.getuid() === 0 ? [] : ['sudo'];
  const load = loadavg()[0];
  const all = RUNS.map(([what, viewers, pace, rooms = 1, workers = 1]) => ({ what, viewers, pace, rooms, workers, rounds: [] }));
  for (let round = 0; round < rounds; round++) {
    for (const run of all) {
      const words = run.what === 'probe' ? ['probe'] : [run.what, String(run.viewers), String(seconds), '2', run.pace, String(run.rooms), String(run.workers)];
      const [first, ...rest] = [...root_first, 'unshare', '--net', 'bash', '-ec', NAMESPACE, 'bash', program, ...words];
      const done = spawnSync(first, rest, { encoding: 'utf8' });
      if (done.status !== 0) throw new Error(`bench_forward ${words.join(' ')}: ${done.stderr}`);
      run.rounds.push(JSON.parse(done.stdout.trim().split('\n').at(-1)));
      console.log(words.join(' '), done.stdout.trim());
    }
  }
  return { all, rounds, seconds, load, at: new Date().toISOString().slice(0, 16).replace('T', ' ') };
}

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

export function forwardPage({ all, rounds, seconds, load, at }) {
  const of = (what, viewers, pace) => all.find((r) => r.what === what && r.viewers === viewers && r.pace === pace && r.rooms === 1);
  const spread = (run, key, digits) => {
    const sorted = run.rounds.map((r) => r[key]).sort((a, b) => a - b);
    const say = (v) => v.toFixed(digits);
    return `${say(median(sorted))} (${say(sorted[0])} to ${say(sorted.at(-1))})`;
  };
  const names = { ours: 'Lotse', janus1: 'Janus, `event_loops = 1`', janus: 'Janus as it comes' };
  const rows = all
    .filter((run) => run.what !== 'probe')
    .map((run) => {
      const per = run.rounds.map((r) => ({ ...r, each: r.memory_mb / run.viewers / run.rooms }));
      const viewers = run.rooms === 1 ? run.viewers : `${run.rooms} rooms × ${run.viewers}, ${run.workers} worker${run.workers === 1 ? '' : 's'}`;
      const cells = [
        spread(run, 'cpu_us_per_packet', 2),
        spread(run, 'p50_ms', 2),
        spread(run, 'p99_ms', 2),
        spread(run, 'delivered_pct', 1),
        spread({ rounds: per }, 'each', 2),
      ];
      return `| ${names[run.what]} | ${viewers} | ${run.pace} | ${cells.join(' | ')} |`;
    });
  const cpu = (what, viewers, pace) => median(of(what, viewers, pace).rounds.map((r) => r.cpu_us_per_packet));
  const probe = all.find((r) => r.what === 'probe');
  const least = median(probe.rounds.map((r) => r.cpu_us_per_packet));
  const [ours, tuned] = [cpu('ours', 100, 'burst'), cpu('janus1', 100, 'burst')];
  return `## Forwarding

One publisher of 2 Mbit/s to all viewers: \`burst\` sends each of 30 frames a second at once, \`even\` spreads its packets. The same loader, in a process of its own, drives ours and Debian's Janus (VideoRoom);
AES-128-GCM everywhere; ${rounds} rounds of ${seconds} s taken in turns, median (lowest to highest); ${at} UTC, load ${load.toFixed(1)} before; development profile. CPU time of everything but the loader, user and system, over packets
that arrived; delay from the publisher's send to the viewer's decrypted packet, the loader's own work included; memory grown since before anybody joined.

| | Viewers | Pace | CPU per packet, µs | delay p50, ms | delay p99, ms | delivered, % | memory per viewer, MB |
|---|---|---|---|---|---|---|---|
${rows.join('\n')}

**Lotse against the tuned Janus** (100 viewers, burst): ${(tuned / ours).toFixed(1)} × less CPU per packet. **η** = ${(least / ours).toFixed(2)}: the least a forwarder does for a packet, AES-128-GCM and one \`sendto\`, is ${spread(probe, 'cpu_us_per_packet', 2)} µs here
(sealing alone ${spread(probe, 'sealing_us', 2)}; ${spread(probe, 'read_pct', 0)} % of the probe's packets were read), over our ${ours.toFixed(2)}. Repeat: \`node tests/bench.mjs forward\`.
`;
}
