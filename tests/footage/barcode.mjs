// Frame number and clap flash: draws them into a frame and reads them back.
//
// Owns: the meaning of barcode.json, in JavaScript.
// Never: a size or a place of its own; they all stand in barcode.json.
// Elsewhere: the frames (render.mjs), the readers in Rust and TypeScript tests.

/** CRC-4 of the frame number, as barcode.json describes it. */
export function check(spec, frame) {
  let crc = 0b1111;
  for (let bit = spec.data_bits - 1; bit >= 0; bit--) {
    const top = ((crc >> 3) ^ (frame >> bit)) & 1;
    crc = ((crc << 1) & 0b1111) ^ (top ? 0b0011 : 0);
  }
  return crc;
}

/** All cells of one frame in reading order, 1 = white. */
export function bits(spec, frame) {
  const number = (value, width) => [...value.toString(2).padStart(width, "0")].map(Number);
  return [
    ...spec.start,
    ...number(frame, spec.data_bits),
    ...number(check(spec, frame), spec.check_bits),
    ...spec.stop,
  ];
}

/** Top left corners of the cells in reading order. */
export function cells(spec) {
  return spec.rows.flatMap((row) =>
    Array.from({ length: row.cells }, (_, i) => ({ x: row.x + i * spec.cell.size, y: row.y })),
  );
}

/** Is the flash white in this frame? */
export function flashes(spec, frame) {
  return spec.claps.some((clap) => frame >= clap.frame && frame < clap.frame + spec.flash.frames);
}

/** Draws panel, code and flash on a 2D canvas context of the full picture size. */
export function draw(spec, context, frame) {
  const { panel, cell, flash } = spec;
  context.fillStyle = panel.colour;
  context.fillRect(panel.x, panel.y, panel.width, panel.height);
  context.fillStyle = "#ffffff";
  const places = cells(spec);
  bits(spec, frame).forEach((bit, i) => {
    if (bit) context.fillRect(places[i].x, places[i].y, cell.size, cell.size);
  });
  if (flashes(spec, frame)) context.fillRect(flash.x, flash.y, flash.size, flash.size);
}

/**
 * Reads a decoded picture of any size with the clip's aspect ratio.
 * `luma(x, y)` gives the brightness 0..255 of one pixel.
 * Returns `{ frame, flash }`, or null where no valid code is seen.
 */
export function read(spec, width, luma) {
  const scale = width / spec.picture.width;
  const mean = (x, y, size, sample) => {
    const inset = (size - sample) / 2;
    const from = [Math.ceil((x + inset) * scale), Math.ceil((y + inset) * scale)];
    const to = [Math.floor((x + inset + sample) * scale), Math.floor((y + inset + sample) * scale)];
    let sum = 0;
    let count = 0;
    for (let py = from[1]; py < Math.max(to[1], from[1] + 1); py++)
      for (let px = from[0]; px < Math.max(to[0], from[0] + 1); px++) {
        sum += luma(px, py);
        count++;
      }
    return sum / count;
  };
  const seen = cells(spec).map(({ x, y }) => mean(x, y, spec.cell.size, spec.cell.sample));
  const last = seen.length - 1;
  const white = (seen[0] + seen[last]) / 2;
  const black = (seen[1] + seen[last - 1]) / 2;
  if (white - black < 64) return null;
  const middle = (white + black) / 2;
  const found = seen.map((value) => (value > middle ? 1 : 0));
  const data = found.slice(spec.start.length, spec.start.length + spec.data_bits);
  const frame = parseInt(data.join(""), 2);
  if (frame >= spec.frames || bits(spec, frame).join("") !== found.join("")) return null;
  const { flash } = spec;
  return { frame, flash: mean(flash.x, flash.y, flash.size, flash.size / 2) > middle };
}
