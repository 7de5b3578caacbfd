// The expert's microphone: asked for once, quiet until a key is held or it is left open.
//
// Owns: the track, its level, push-to-talk. A refusal is a state, not an error: listening goes on.

export type MicState = 'off' | 'asking' | 'ready' | 'refused' | 'missing';

const KEPT = 'lotse.mic';
/** The level is shown ten times a second. */
const LEVEL_MS = 100;

export class Microphone {
  state: MicState = $state('off');
  /** Left open rather than push-to-talk. */
  open: boolean = $state(localStorage.getItem(KEPT) === 'open');
  held = $state(false);
  /** 0..1 of what goes out; 0 while nothing does. */
  level = $state(0);
  track: MediaStreamTrack | null = $state.raw(null);

  #context: AudioContext | null = null;
  #timer = 0;

  /** Does sound go out right now? */
  get live(): boolean {
    return this.state === 'ready' && (this.open || this.held);
  }

  async start(): Promise<void> {
    if (this.state === 'asking' || this.state === 'ready') return;
    this.state = 'asking';
    try {
      const stream = await navigator.mediaDevices.getUserMedia({
        audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
      });
      this.#use(stream);
    } catch (e) {
      const name = (e as DOMException).name;
      this.state = name === 'NotFoundError' || name === 'NotReadableError' ? 'missing' : 'refused';
    }
  }

  stop(): void {
    clearInterval(this.#timer);
    this.track?.stop();
    this.track = null;
    void this.#context?.close().catch(() => {});
    this.#context = null;
    this.state = 'off';
    this.level = 0;
  }

  setOpen(open: boolean): void {
    this.open = open;
    localStorage.setItem(KEPT, open ? 'open' : 'ptt');
    this.#apply();
  }

  hold(on: boolean): void {
    this.held = on;
    this.#apply();
  }

  #use(stream: MediaStream): void {
    const track = stream.getAudioTracks()[0];
    if (!track) {
      this.state = 'missing';
      return;
    }
    this.track = track;
    this.state = 'ready';
    track.onended = () => {
      // Unplugged.
      this.stop();
      this.state = 'missing';
    };
    this.#apply();
    this.#measure(stream);
  }

  #apply(): void {
    if (this.track) this.track.enabled = this.open || this.held;
  }

  #measure(stream: MediaStream): void {
    this.#context = new AudioContext();
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 512;
    this.#context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    this.#timer = window.setInterval(() => {
      if (!this.live) {
        this.level = 0;
        return;
      }
      analyser.getFloatTimeDomainData(samples);
      let sum = 0;
      for (const s of samples) sum += s * s;
      // -60 dBFS is nothing, 0 is full.
      const db = 10 * Math.log10(sum / samples.length + 1e-12);
      this.level = Math.min(1, Math.max(0, (db + 60) / 60));
    }, LEVEL_MS);
  }
}
