// Renders the workshop clip: frames from headless Chromium, sound from sound.mjs, both into ffmpeg.
//
// Usage: node render.mjs             the whole clip, into workshop.mp4 (half an hour on an idle core)
//        node render.mjs draft       the same with one new view a second (three minutes)
//        node render.mjs encode      only the last step, from the stored pictures
//        node render.mjs 0 150 400   single frames, into ../out/footage/frame-N.png, to look at
// Owns: the browser and the encoder settings.
// Never: a network; the page is served from this folder through the browser's own request hook.
import { spawn, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { sound } from "./sound.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const out = path.resolve(here, "../out/footage");
const spec = JSON.parse(readFileSync(path.join(here, "barcode.json"), "utf8"));
const origin = "http://footage.invalid";
const kinds = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".json": "application/json" };

const pictures = path.join(out, "pictures.mkv");
const voice = path.join(out, "sound.wav");
const wanted = process.argv.slice(2);
mkdirSync(out, { recursive: true });
if (wanted[0] !== "encode") await render();
if (wanted.every((word) => word === "draft" || word === "encode")) {
  await writeFile(voice, sound(spec));
  encode(pictures, voice, path.join(here, "workshop.mp4"));
}

async function render() {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"],
  });
  try {
    const page = await browser.newPage({ viewport: spec.picture });
    page.on("console", (message) => console.error(`page: ${message.text()}`));
    page.on("pageerror", (error) => console.error(`page: ${error.stack}`));
    await page.route(`${origin}/**`, (route) => {
      const file = path.join(here, new URL(route.request().url()).pathname);
      const kind = kinds[path.extname(file)];
      return kind ? route.fulfill({ path: file, contentType: kind }) : route.abort();
    });
    await page.goto(`${origin}/page.html`);
    await page.waitForFunction("window.ready", null, { timeout: 120_000 });
    const frame = async (number, hold) => Buffer.from(await page.evaluate(([n, h]) => window.frame(n, h), [number, hold]), "base64");
    const draft = wanted[0] === "draft";
    if (wanted.length && !draft) {
      for (const number of wanted) await writeFile(path.join(out, `frame-${number}.png`), await frame(Number(number), false));
    } else {
      await clip((number) => frame(number, draft && number % spec.fps !== 0));
    }
  } finally {
    await browser.close();
  }
}

async function clip(frame) {
  // Lossless first: a change of the final settings then needs no new rendering.
  const store = spawn("ffmpeg", ["-y", "-loglevel", "error", "-f", "image2pipe", "-framerate", String(spec.fps), "-c:v", "png", "-i", "-", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "6", "-pix_fmt", "yuv420p", pictures], { stdio: ["pipe", "inherit", "inherit"] });
  const stored = new Promise((done, fail) => store.on("close", (code) => (code ? fail(new Error(`ffmpeg ended with ${code}`)) : done())));
  const begin = Date.now();
  for (let number = 0; number < spec.frames; number++) {
    if (!store.stdin.write(await frame(number))) await new Promise((free) => store.stdin.once("drain", free));
    if (number % 25 === 24) console.error(`${number + 1} of ${spec.frames} frames, ${Math.round((Date.now() - begin) / 1000)} s`);
  }
  store.stdin.end();
  await stored;
}

/** Two passes to a fixed size: 1.45 Mbit/s of picture and 80 kbit/s of sound are 5.7 MB. */
function encode(pictures, voice, file) {
  const next = path.join(out, path.basename(file));
  // A key frame every 25 frames: one second.
  const picture = ["-c:v", "libx264", "-preset", "slow", "-profile:v", "high", "-b:v", "1450k", "-maxrate", "2500k", "-bufsize", "4M", "-g", "25", "-bf", "2", "-pix_fmt", "yuv420p", "-passlogfile", path.join(out, "x264")];
  const run = (...args) => {
    const done = spawnSync("ffmpeg", ["-y", "-loglevel", "error", "-i", pictures, ...args], { stdio: "inherit" });
    if (done.status) throw new Error(`ffmpeg ended with ${done.status}`);
  };
  run(...picture, "-pass", "1", "-an", "-f", "null", "-");
  run("-i", voice, ...picture, "-pass", "2", "-c:a", "aac", "-b:a", "80k", "-movflags", "+faststart", "-shortest", next);
  copyFileSync(next, file);
  console.error(`wrote ${file}`);
}
