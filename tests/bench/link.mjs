// The part of docs/BENCHMARKS.md about bad links, from what tests/browser/bench-link.ts wrote.
//
// Owns: the words around the figures. Never: asserts one.

const FPS = 30;
/** A picture that stands longer than this stands still for a person. */
const STILL_MS = 500;

const part = (of, all) => `${((100 * of) / all).toFixed(1)} %`;
const words = (text) => `\`${text}\``;

/** The longest time without a picture, and when the last standstill of that step was over; ms. */
function standstills({ painted, seconds }) {
  const times = [0, ...painted, seconds * 1_000];
  const gaps = times.slice(1).map((t, i) => ({ ms: t - times[i], over: t }));
  const still = gaps.filter((g) => g.ms > STILL_MS);
  return { longest: Math.max(...gaps.map((g) => g.ms)), over: still.at(-1)?.over ?? 0, count: still.length };
}

/** kbit/s between two instants of a step, ms. */
function rate({ bytes }, from, to) {
  const inside = bytes.filter(([t]) => t >= from && t <= to);
  const [first, last] = [inside[0], inside.at(-1)];
  return first && last && last[0] > first[0] ? (8 * (last[1] - first[1])) / (last[0] - first[0]) : 0;
}

function changed(step) {
  const { longest, over, count } = standstills(step);
  const end = step.seconds * 1_000;
  const last = step.painted.filter((t) => t > end - 10_000).length / 10;
  return `| ${words(step.words)} | ${longest.toFixed(0)} | ${count} | ${over.toFixed(0)} | ${rate(step, 0, 10_000).toFixed(0)} | ${rate(step, end - 10_000, end).toFixed(0)} | ${last.toFixed(1)} | ${part(step.taken, 1)} |`;
}

export function linkPage(d) {
  const rows = d.rows.map(
    (r) =>
      `| ${r.hop} | ${words(r.words)} | ${(r.decoded / r.seconds).toFixed(1)} | ${part(r.frozen, r.seconds)} | ${r.freezes} | ${part(r.concealed - r.silent, r.samples)} | ${(r.keys / r.seconds).toFixed(2)} | ${(r.nacks / r.seconds).toFixed(1)} | ${part(r.taken, 1)} |`,
  );
  return `## Bad links

\`tests/browser/bench-link.ts\`: real glasses (${FPS} pictures a second, VP8) in a recorded call with one expert in Chromium, each behind a relay of its own (\`tests/examples/relay.rs\`, seeds ${d.seed} and ${d.seed + 1}); ${d.at} UTC,
${d.seconds} s a row after ten to settle. Taken: the part of the processors that the machine's host kept for others meanwhile; what it takes freezes pictures too. Repeat:
\`node tests/bench.mjs link\`.

Losses on one hop, both ways of it, the other one without; a round trip of 50 ms. Frozen and concealed as Chromium counts them (concealed without what it hid in silence). Aim at 15 %: 24
pictures a second, frozen 1 %, concealed 1 %.

| hop | link | pictures/s | frozen | freezes | voice concealed | key frames/s | NACKs/s | taken |
|---|---|---|---|---|---|---|---|---|
${rows.join('\n')}

The glasses' link changes; in the order in which it did. Still: no picture painted for ${STILL_MS} ms. Aims: over again within 2 s, never 5 s; back up within 10 s; another address: 2 s.

| link from then on | longest without a picture, ms | standstills | the last was over after, ms | kbit/s, first 10 s | last 10 s | pictures/s, last 10 s | taken |
|---|---|---|---|---|---|---|---|
${d.changes.map(changed).join('\n')}
`;
}
