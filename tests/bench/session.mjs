// The part of docs/BENCHMARKS.md about one recorded session, from what tests/browser/bench.ts wrote.
//
// Owns: the words around the figures. Never: a figure of its own.

const ms = (v) => (Math.abs(v) < 10 ? v.toFixed(1) : Math.round(v).toString());
const row = (name, s, unit = ms) => (s ? `| ${name} | ${s.n} | ${unit(s.min)} | ${unit(s.p50)} | ${unit(s.p95)} | ${unit(s.max)} |` : `| ${name} | 0 | | | | |`);

export function sessionPage(s) {
  const [first, last] = [s.usage[0], s.usage.at(-1)];
  const parts = (of) => of.map((p) => (p === undefined || p === null ? '–' : ms(p))).join(', ');
  const cpu = (name) => ((100 * (last[name].cpu_s - first[name].cpu_s)) / ((last[name].at_ms - first[name].at_ms) / 1000)).toFixed(0);
  const kept = Object.values(s.browser);
  const video = kept.find((k) => k.framesDecoded);
  const voice = kept.filter((k) => k.jitterBufferEmittedCount && !k.framesDecoded).sort((a, b) => b.jitterBufferEmittedCount - a.jitterBufferEmittedCount)[0];
  // Both count in emitted units: seconds of all pictures together, and of all samples together.
  const buffered = (k) => Math.round((1000 * k.jitterBufferDelay) / k.jitterBufferEmittedCount);
  const sec = (v) => v.toFixed(1);

  return `## One recorded session

\`tests/browser/bench.ts\`: the real programs and Chromium (headless, no graphics card) on this machine, glasses with the workshop clip (1280x720, 25 pictures a second,
VP8), one expert who sends ${s.marks.n} marks, a second one coming and going, the archivist recording. ${s.at} UTC, ${sec(s.minutes)} min, load ${s.load[0].toFixed(1)} before and ${s.load[1].toFixed(1)} over its last five minutes; development profile, loopback.
A percentile is the measured value of the nearest rank.

| ms | n | min | p50 | p95 | max |
|---|---|---|---|---|---|
${[
    row('capture → painted in Chromium', s.glass_to_glass),
    row('– while no page came or went', s.alone.glass_to_glass),
    row('Enter → presented on the HUD', s.enter_to_present),
    row('– while no page came or went', s.alone.enter_to_present),
    row('join: answer clicked → first picture painted', s.join_picture),
    row('before it: page opened anew → the answer can be clicked', s.join_open),
    row('mouth → ear', s.mouth_to_ear),
    row('– while no page came or went', s.alone.mouth_to_ear),
    row('picture later than sound at the expert (negative: earlier)', s.skew),
    row('– while no page came or went', s.alone.skew),
    row('replay: click on the time line → right picture painted', s.seek),
  ].join('\n')}

**Marks on the picture meant: ${s.marks.archive} of ${s.marks.n}** by the archive, **${s.marks.display} of ${s.marks.n}** by the glasses' display; \`exact\` was claimed for ${s.marks.exact}.
**Seeks that showed the picture of the asked time: ${s.seeks.right} of ${s.seeks.n}.** ${s.failed === 0 ? 'No step of the session failed.' : `Steps of the session that failed and are in no figure: ${s.failed}.`}

How each was measured, and how far it may be off:

- **Clocks.** One machine, one clock; still every time goes through the product's own mapping to server UTC, so its errors are in the figures. What the page
  took for server time was off by ${ms(s.clock.page_error.min)} to ${ms(s.clock.page_error.max)} ms (checked with \`Date.now\`, which has whole milliseconds), the glasses by ${s.clock.glasses_error.min.toFixed(2)} to ${s.clock.glasses_error.max.toFixed(2)} ms; the track announces ${s.clock.announced.toFixed(2)} ms. RTP time by the announced
  \`rtp_base\` and \`start_us\` against the sender reports that the archive kept: ${s.clock.mapping.min.toFixed(3)} to ${s.clock.mapping.max.toFixed(3)} ms (n = ${s.clock.mapping.n}).
- **Capture → painted.** From the instant at which the clip hands a picture to the encoder (as its RTP time says) to \`expectedDisplayTime\` of \`requestVideoFrameCallback\`, for every picture that the
  page's \`window.lotse.painted()\` kept. Exposure before it and a display after it are not in it. Medians of the six sixths of the session: ${parts(s.glass_to_glass_parts)} ms.
- **Enter → presented.** From the key's event time to \`at_us\` of the line in hud.jsonl that shows this instruction. In between: compressing and uploading the Snapshot, the commit with its fsync,
  fan-out, decoding the frame from the ring, drawing. The expert draws one stroke; DONE is said after each.
- **Marks.** Pen down freezes; the bar code is read from the frozen picture before Enter. After the session the committed FrameId's RTP time is looked up in the downloaded bundle: \`frame_ticks\` of the
  recorded fragment names the picture, ffmpeg decodes it, its bar code is compared. Independently the glasses' display, drawn from their own ring for this FrameId, is read.
- **Join.** A second expert opens the running session's page ${s.join_picture?.n ?? 0} times (a full load each time; the first time with a new answer, then "Back to the call"). The person's time to read the question is left out: the
  first figure ends when the button is there, the second begins with its click and ends with the first picture's \`expectedDisplayTime\`.
  In their order: ${s.joins.map((j) => ms(j)).join(', ')} ms. Pages of both experts and all programs share two cores: the rows "while no page came or went" leave out what
  fell between the beginning of a join and 2 s after its end, ${ms(s.joining_s)} s of the session.
- **Mouth → ear.** ${s.claps.heard} of the clip's ${s.claps.n} claps. Capture: the click's RTP time in the archived voice, less the 6.5 ms by which Opus is late, through the track's mapping. Ear: \`MediaStreamTrackProcessor\` on the voice that the
  page plays gives each block of 10 ms with the moment at which the player took it; to that is added the playout delay that Chromium measures (\`media-playout\` of its statistics), ${ms(s.output_latency_ms)} ms (a null device: this machine has no sound card).
  For the picture against the sound, the flash of the same clap. A round of the clip's sound need not be as long as one of its
  picture, so a click may be captured a little off its flash (measured: ${s.source_skew ? `${ms(s.source_skew.min)} to ${ms(s.source_skew.max)} ms` : '?'}); both are timed by themselves, so the figures are free of it.
  The picture is held back for 40 ms (the playout delay that the glasses ask for), no longer. Medians of the difference in the six sixths of the session: ${parts(s.skew_parts)} ms.
- **Seek.** As manager, in the recording of this session, at random places where something was recorded, 300 ms after the picture before; from the pointer's event time to \`expectedDisplayTime\` of the first picture whose media time lies in the frame that the archive's
  \`frame_ticks\` have there. Its bar code is compared with the decoded fragment's.

The glasses captured ${s.frames.captured} pictures since their start and encoded ${s.frames.encoded}; the archive holds ${s.recorded} in ${s.segments} fragments of all tracks. The page decoded ${video?.framesDecoded ?? '?'}, dropped ${video?.framesDropped ?? '?'}, froze ${video?.freezeCount ?? '?'} times
(${sec(video?.totalFreezesDuration ?? 0)} s in all); on average a picture waited ${video ? buffered(video) : '?'} ms in the jitter buffer and the voice ${voice ? buffered(voice) : '?'} ms.

Of the machine's two processors, sixth by sixth of the session, all programs and browsers used ${s.shares.map((p) => (100 * p.work).toFixed(0)).join(', ')} %; its host gave ${s.shares.map((p) => (100 * p.taken).toFixed(0)).join(', ')} % to other machines while they were
wanted here (steal, proc(5)): where that is much, every figure of latency above holds it too.

| program | CPU, % of a core | memory from the first minute to the last, evenly apart, MB | descriptors |
|---|---|---|---|
${Object.keys(first)
  .map((name) => {
    const all = s.usage.map((u) => u[name]);
    return `| ${name} | ${cpu(name)} | ${all.map((u) => u.rss_mb.toFixed(0)).join(', ')} | ${all.map((u) => u.descriptors).join(', ')} |`;
  })
  .join('\n')}
`;
}

/** `runs`: one of each quartz. */
export function voicesPage(runs) {
  const line = (s) =>
    `| ${s.ppm > 0 ? '+' : ''}${s.ppm} | ${s.at} | ${s.load[0].toFixed(1)} | ${s.claps.heard} of ${s.claps.n} | ${['min', 'p50', 'p95', 'max'].map((k) => ms(s.mouth_to_ear[k])).join(' | ')} | ${['p50', 'p95'].map((k) => ms(s.glass_to_glass[k])).join(' / ')} |`;
  return `## Three voices, and a quartz that is off

As above for ${runs.map((s) => s.minutes.toFixed(1)).join(' and ')} min, with a second expert who stays and talks without a pause: technician and two experts, three voices. All clocks of the glasses run fast or slow by so many parts in a million
(\`LOTSE_CLOCK_PPM\` of \`tests/faults\`); the machine's own clock is the true one. Repeat: \`node tests/bench.mjs voices\`.

| ppm | UTC | load before | claps heard | mouth → ear, ms: min | p50 | p95 | max | capture → painted, p50 / p95 |
|---|---|---|---|---|---|---|---|---|
${runs.map(line).join('\n')}
`;
}
