// The sound of the workshop: a technician's words (espeak-ng), machine hum, the clicks of the claps.
//
// Owns: what is said when, and the mix. 48 kHz, one channel, 16 bit; the end meets the beginning.
// Never: a click at another time than barcode.json says.
import { spawnSync } from "node:child_process";

const RATE = 48_000;
/** Peak of the voice, full scale is 1: well below the clicks, so that these can be found. */
const VOICE = 0.45;

/** Words keep clear of the claps at 5, 15 and 25 s by at least 0.3 s. */
const WORDS = [
  { at: 0.5, voice: "en-gb", text: "Pump two oh four is leaking at the shaft seal." },
  { at: 5.6, voice: "en-gb", text: "Look, the water drips right below the gland. I tightened it, no change." },
  { at: 10.8, voice: "de", text: "Die Gleitringdichtung ist undicht." },
  { at: 15.6, voice: "en-gb", text: "The gauge reads three point two bar. The flange bolts are dry." },
  { at: 20.6, voice: "de", text: "Soll ich zuerst den Deckel lösen?" },
  { at: 25.7, voice: "en-gb", text: "Please mark the bolt you mean." },
];

/** One spoken sentence as samples between -1 and 1, at 48 kHz. */
export function speak({ voice, text }) {
  const said = spawnSync("espeak-ng", ["-v", voice, "-s", "150", "-p", "38", "-a", "120", "--stdout", text], { maxBuffer: 1 << 26 });
  if (said.status) throw new Error(`espeak-ng ended with ${said.status}: ${said.stderr}`);
  const wav = said.stdout;
  const rate = wav.readUInt32LE(24);
  const samples = new Float32Array((wav.length - 44) >> 1).map((_, i) => wav.readInt16LE(44 + 2 * i) / 32768);
  const out = new Float32Array(Math.floor((samples.length / rate) * RATE));
  for (let i = 0; i < out.length; i++) {
    const at = (i / RATE) * rate;
    const low = Math.floor(at);
    out[i] = samples[low] + ((samples[low + 1] ?? 0) - samples[low]) * (at - low);
  }
  return out;
}

/** The whole track as a WAV file. */
export function sound(spec) {
  const length = (spec.duration_ms / 1000) * RATE;
  const mix = hum(length);
  for (const words of WORDS) {
    const said = speak(words);
    const from = Math.round(words.at * RATE);
    const end = words.at + said.length / RATE;
    for (const { time_ms } of [...spec.claps, { time_ms: spec.duration_ms }])
      if (words.at * 1000 < time_ms && end * 1000 > time_ms - 300) throw new Error(`"${words.text}" ends at ${end.toFixed(2)} s, too close to ${time_ms} ms`);
    const loudest = said.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    said.forEach((value, i) => (mix[from + i] += (VOICE * value) / loudest));
  }
  const random = noise(41);
  for (const { time_ms } of spec.claps) {
    const from = (time_ms / 1000) * RATE;
    const count = (spec.click.length_ms / 1000) * RATE;
    for (let i = 0; i < count; i++) mix[from + i] = 0.98 * Math.sign(random()) * (1 - i / count);
  }
  return wav(mix);
}

/** Motors next door: whole cycles of mains tones and a rumble that loops. */
function hum(length) {
  const seconds = length / RATE;
  const out = new Float32Array(length);
  const tones = [[50, 0.012], [100, 0.02], [149.7, 0.007], [200, 0.008], [299.4, 0.003], [24.3, 0.012]];
  for (const [hertz, size] of tones) {
    const cycles = Math.round(hertz * seconds);
    for (let i = 0; i < length; i++) out[i] += size * Math.sin((2 * Math.PI * cycles * i) / length);
  }
  const random = noise(7);
  const raw = Float32Array.from({ length }, random);
  let [slow, fast] = [0, 0];
  // Twice round: the second turn starts where the first ended, so the loop has no seam.
  for (let i = 0; i < 2 * length; i++) {
    slow += 0.02 * (raw[i % length] - slow);
    fast += 0.25 * (raw[i % length] - fast);
    if (i >= length) out[i - length] += 0.05 * slow + 0.004 * fast;
  }
  return out;
}

function noise(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2147483648 - 1;
  };
}

function wav(samples) {
  const file = Buffer.alloc(44 + samples.length * 2);
  file.write("RIFF", 0);
  file.writeUInt32LE(36 + samples.length * 2, 4);
  file.write("WAVEfmt ", 8);
  file.writeUInt32LE(16, 16);
  file.writeUInt16LE(1, 20);
  file.writeUInt16LE(1, 22);
  file.writeUInt32LE(RATE, 24);
  file.writeUInt32LE(RATE * 2, 28);
  file.writeUInt16LE(2, 32);
  file.writeUInt16LE(16, 34);
  file.write("data", 36);
  file.writeUInt32LE(samples.length * 2, 40);
  samples.forEach((value, i) => file.writeInt16LE(Math.round(32767 * Math.max(-1, Math.min(1, value))), 44 + 2 * i));
  return file;
}
