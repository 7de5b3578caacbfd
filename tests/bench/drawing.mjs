// The part of docs/BENCHMARKS.md about drawing, from what tests/browser/bench-drawing.ts wrote.
//
// Owns: the words around the figures. Never: a figure of its own.

const row = (name, s) => `| ${name} | ${s.n} | ${[s.min, s.p50, s.p95, s.max].map((v) => v.toFixed(1)).join(' | ')} |`;

export function drawingPage(d) {
  return `## Drawing over playing video

\`tests/browser/bench-drawing.ts\`: a frozen picture with the live video playing beside it, real programs, Chromium as above; ${d.at} UTC, load ${d.load[0].toFixed(1)} before and ${d.load[1].toFixed(1)} after.
Repeat: \`node tests/bench.mjs drawing\`.

| main thread, ms per move | n | min | p50 | p95 | max |
|---|---|---|---|---|---|
${row('pointer moves, nothing is drawn', d.still)}
${row(`one long stroke, ${d.marks} strokes there already`, d.drawing)}

Drawing adds **${(d.drawing.p95 - d.still.p95).toFixed(1)} ms at p95** (aim: 16). Two strokes of 400 moves each. From the move's first listener to the first message after it: handlers, the flush of the page's
state, style, layout, paint and the hand-over to the compositor, and whatever else the main thread did in between (painting's callbacks of the video among it), so at most this. The live
video lost ${d.dropped} of ${d.decoded} pictures since the call began. The frozen picture itself is one canvas that is not drawn again.
`;
}
