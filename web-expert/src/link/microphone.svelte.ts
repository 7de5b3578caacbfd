// A person's microphone: asked for once. An expert's is quiet until a key is held or it is left open; a technician's is open.
//
// Owns: the track, its level, which device, push-to-talk. A refusal is a state, not an error: listening goes on.
// Never: sends (rtc.svelte.ts).

import { keptDevice, keepDevice } from './devices.svelte';

export type MicState = 'off' | 'asking' | 'ready' | 'refused' | 'missing';

const KEPT = 'lotse.mic';
/** The level is shown ten times a second. */
const LEVEL_MS = 100;

export class Microphone {
  state: MicState = $state('off');
  /** Left open rather than push-to-talk. */
  open: boolean = $state(true);
  held = $state(false);
  /** 0..1 of what goes out; 0 while nothing does. */
  level = $state(0);
  /** 0..1 of what the device hears, measured while somebody looks (`listen`), whether it goes out or not. */
  heard = $state(0);
  track: MediaStreamTrack | null = $state.raw(null);
  /** The device in use as the browser names it; empty until there is one. */
  device = $state('');

  #context: AudioContext | null = null;
  /** The same sound beside the track that is sent: it is measured even while that one is quiet. */
  #ear: MediaStreamTrack | null = null;
  #listeners = 0;
  #timer = 0;

  /** `kept`: how one talks is remembered in this browser. */
  constructor(private readonly kept = true) {
    if (kept) this.open = localStorage.getItem(KEPT) === 'open';
  }

  /** Does sound go out right now? */
  get live(): boolean {
    return this.state === 'ready' && (this.open || this.held);
  }

  async start(): Promise<void> {
    if (this.state === 'asking' || this.state === 'ready') return;
    this.state = 'asking';
    try {
      this.#use(await this.#ask(keptDevice('audioinput')));
    } catch (e) {
      const name = (e as DOMException).name;
      this.state = name === 'NotFoundError' || name === 'NotReadableError' ? 'missing' : 'refused';
    }
  }

  /** Another device, from now on and the next time. The call's owner sends the new track (`RtcSession.republish`). */
  async choose(device: string): Promise<void> {
    keepDevice('audioinput', device);
    if (this.state === 'asking' || device === this.device) return;
    this.stop();
    await this.start();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.track?.stop();
    this.#ear?.stop();
    this.track = this.#ear = null;
    void this.#context?.close().catch(() => {});
    this.#context = null;
    this.state = 'off';
    this.level = this.heard = 0;
    this.device = '';
  }

  setOpen(open: boolean): void {
    this.open = open;
    if (this.kept) localStorage.setItem(KEPT, open ? 'open' : 'ptt');
    this.#apply();
  }

  hold(on: boolean): void {
    this.held = on;
    this.#apply();
  }

  /** Measures what is heard until the returned function is called. */
  listen(): () => void {
    this.#listeners++;
    return () => {
      if (--this.#listeners === 0) this.heard = 0;
    };
  }

  async #ask(device: string): Promise<MediaStream> {
    const wishes = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
    const get = (exact: string) => navigator.mediaDevices.getUserMedia({ audio: { ...wishes, ...(exact ? { deviceId: { exact } } : {}) } });
    try {
      return await get(device);
    } catch (e) {
      // Unplugged since it was chosen: any other is better than none.
      if (device && ['OverconstrainedError', 'NotFoundError', 'NotReadableError'].includes((e as DOMException).name)) return get('');
      throw e;
    }
  }

  #use(stream: MediaStream): void {
    const track = stream.getAudioTracks()[0];
    if (!track) {
      this.state = 'missing';
      return;
    }
    this.track = track;
    this.device = track.getSettings().deviceId ?? '';
    this.state = 'ready';
    track.onended = () => {
      // Unplugged.
      this.stop();
      this.state = 'missing';
    };
    this.#apply();
    this.#measure(track);
  }

  #apply(): void {
    if (this.track) this.track.enabled = this.open || this.held;
  }

  #measure(track: MediaStreamTrack): void {
    this.#ear = track.clone();
    this.#ear.enabled = true;
    this.#context = new AudioContext();
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 1024;
    this.#context.createMediaStreamSource(new MediaStream([this.#ear])).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    this.#timer = window.setInterval(() => {
      if (!this.live && this.#listeners === 0) {
        this.level = 0;
        return;
      }
      analyser.getFloatTimeDomainData(samples);
      let sum = 0;
      for (const s of samples) sum += s * s;
      // -60 dBFS is nothing, 0 is full.
      const db = 10 * Math.log10(sum / samples.length + 1e-12);
      const level = Math.min(1, Math.max(0, (db + 60) / 60));
      this.level = this.live ? level : 0;
      if (this.#listeners > 0) this.heard = level;
    }, LEVEL_MS);
  }
}
