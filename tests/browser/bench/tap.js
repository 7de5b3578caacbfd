// Runs on the audio thread of a measured page: tells on which sample of the context a clap's click comes out.

import { Clicks } from './clicks.js';

registerProcessor(
  'click-tap',
  class extends AudioWorkletProcessor {
    #clicks = new Clicks(sampleRate);

    process([input]) {
      const samples = input[0] ?? [];
      for (let i = 0; i < samples.length; i++) {
        const found = this.#clicks.hear(samples[i], currentFrame + i);
        if (found !== null) this.port.postMessage(found);
      }
      return true;
    }
  },
);
