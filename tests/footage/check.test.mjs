// Reads the committed clip back: every frame number, every clap, by eye (bar code) and ear (click).
//
// Owns: the proof that barcode.json tells the truth about workshop.mp4, also after a poor link (VP8, 1 Mbit/s) and in preview size.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { bits, read } from "./barcode.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const clip = path.join(here, "workshop.mp4");
const spec = JSON.parse(readFileSync(path.join(here, "barcode.json"), "utf8"));

function ffmpeg(...args) {
  const done = spawnSync("ffmpeg", ["-loglevel", "error", ...args], { maxBuffer: 2 ** 30 });
  assert.equal(done.status, 0, String(done.stderr));
  return done.stdout;
}

/** Codes of all frames of a video; only the strip with the code is decoded to pixels. */
function codes(file, width) {
  const scale = width / spec.picture.width;
  const [w, h, top] = [spec.panel.width * scale, spec.panel.height * scale, spec.panel.y * scale];
  const raw = ffmpeg("-i", file, "-vf", `scale=${width}:-2,crop=${w}:${h}:0:${top}`, "-pix_fmt", "gray", "-f", "rawvideo", "-");
  const size = w * h;
  return Array.from({ length: raw.length / size }, (_, i) => read(spec, width, (x, y) => raw[i * size + (y - top) * w + x]));
}

function all_right(found, count = spec.frames) {
  assert.equal(found.length, count);
  found.forEach((code, i) => {
    assert.ok(code, `frame ${i}: no code`);
    assert.equal(code.frame, i);
    const lit = spec.claps.some((clap) => i >= clap.frame && i < clap.frame + spec.flash.frames);
    assert.equal(code.flash, lit, `flash of frame ${i}`);
  });
}

test("examples of barcode.json", () => {
  for (const example of spec.examples) assert.equal(bits(spec, example.frame).join(""), example.bits);
});

test("a damaged code is refused", () => {
  const cells = bits(spec, 300);
  const at = (x, y) => cells[(y >= spec.rows[1].y ? 10 : 0) + Math.floor((x - spec.rows[0].x) / spec.cell.size)];
  for (let broken = 0; broken < cells.length; broken++) {
    cells[broken] ^= 1;
    assert.equal(read(spec, 1280, (x, y) => 255 * (at(x, y) ?? 0)), null, `cell ${broken}`);
    cells[broken] ^= 1;
  }
  assert.deepEqual(read(spec, 1280, (x, y) => 255 * (at(x, y) ?? 0)), { frame: 300, flash: false });
});

test("every frame of the clip carries its number", () => {
  assert.ok(statSync(clip).size <= 6_000_000);
  all_right(codes(clip, 1280));
});

test("the number survives the preview size", () => all_right(codes(clip, 320)));

test("the number survives VP8 at 1 Mbit/s", () => {
  const poor = ffmpeg("-i", clip, "-an", "-frames:v", "250", "-c:v", "libvpx", "-b:v", "1M", "-deadline", "realtime", "-cpu-used", "16", "-f", "matroska", "-");
  const seen = spawnSync("ffmpeg", ["-loglevel", "error", "-i", "-", "-vf", `crop=${spec.panel.width}:${spec.panel.height}:0:${spec.panel.y}`, "-pix_fmt", "gray", "-f", "rawvideo", "-"], { input: poor, maxBuffer: 2 ** 30 });
  assert.equal(seen.status, 0, String(seen.stderr));
  const [w, size] = [spec.panel.width, spec.panel.width * spec.panel.height];
  all_right(Array.from({ length: seen.stdout.length / size }, (_, i) => read(spec, 1280, (x, y) => seen.stdout[i * size + (y - spec.panel.y) * w + x])), 250);
});

test("clicks sound when the flash shines", () => {
  const raw = ffmpeg("-i", clip, "-vn", "-ac", "1", "-ar", "48000", "-f", "s16le", "-");
  const samples = new Int16Array(raw.buffer, raw.byteOffset, raw.length >> 1);
  const heard = [];
  for (let i = 0; i < samples.length; i++)
    if (Math.abs(samples[i]) > 24_000) {
      heard.push(i / 48);
      i += 48_000;
    }
  assert.equal(heard.length, spec.claps.length);
  heard.forEach((ms, i) => assert.ok(Math.abs(ms - spec.claps[i].time_ms) < 5, `heard at ${ms} ms`));
});
