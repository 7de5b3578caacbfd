// The five colours are told apart on the picture, by colour-blind people too.
//
// Dichromats by Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency"
// (2009), severity 1, in linear sRGB; distances are CIE 1976 L*a*b*. Marks lie on the picture, so the theme changes nothing.

import { describe, expect, it } from 'vitest';
import { COLOURS, INK } from './tools';

type Triple = [number, number, number];
const EYES: Record<string, [Triple, Triple, Triple]> = {
  usual: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  'without red': [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  'without green': [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  'without blue': [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};
/** A distance of about 2.3 is just seen side by side; thin lines on a busy picture get nine times that. */
const APART = 21;
/** Of a line against its own dark casing, WCAG 1.4.11. */
const CONTRAST = 3;

const linear = (ink: string): Triple => [1, 3, 5].map((i) => {
  const v = parseInt(ink.slice(i, i + 2), 16) / 255;
  return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
}) as Triple;
const luminance = ([r, g, b]: Triple) => 0.2126 * r + 0.7152 * g + 0.0722 * b;

function lab(ink: string, eye: [Triple, Triple, Triple]): Triple {
  const from = linear(ink);
  const [r, g, b] = eye.map((row) => Math.min(1, Math.max(0, row[0] * from[0] + row[1] * from[1] + row[2] * from[2]))) as Triple;
  const f = (t: number) => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116);
  const x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047);
  const y = f(luminance([r, g, b]));
  const z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883);
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

describe('ink', () => {
  it.each(Object.entries(EYES))('%s: every pair is told apart', (_name, eye) => {
    for (const [i, a] of COLOURS.entries())
      for (const b of COLOURS.slice(i + 1)) {
        const [p, q] = [lab(INK[a], eye), lab(INK[b], eye)];
        expect(Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]), `${a} and ${b}`).toBeGreaterThan(APART);
      }
  });

  it.each(COLOURS)('%s stands out against its casing on dark ground', (colour) => {
    const dark = luminance(linear('#000000')) + 0.05;
    expect((luminance(linear(INK[colour])) + 0.05) / dark).toBeGreaterThan(CONTRAST);
  });
});
