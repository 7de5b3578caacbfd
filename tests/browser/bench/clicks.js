// Finds the clicks of the claps in sound, the same way in a page (`watch.ts`) and in the archive (`archive.ts`).
//
// A click stands alone: 0.2 s of nothing loud before it, then loud at once; words stay below it and grow slower.

/** Of full scale. */
const LOUD = 0.4;
const QUIET = 0.2;
const ALONE_S = 0.2;
const RISE_S = 0.005;

export class Clicks {
  #rate;
  #sound = -Infinity;
  #rose = -Infinity;

  constructor(rate) {
    this.#rate = rate;
  }

  /** Sample number `at` of value `x`. Gives the number of a click's first sample, once; else null. */
  hear(x, at) {
    const level = Math.abs(x);
    if (level < QUIET) return null;
    if (at - this.#sound >= ALONE_S * this.#rate) this.#rose = at;
    this.#sound = at;
    if (level < LOUD || at - this.#rose > RISE_S * this.#rate) return null;
    const found = this.#rose;
    this.#rose = -Infinity;
    return found;
  }
}
