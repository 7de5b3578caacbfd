// A technician's camera: asked for once, turned round, its lamp and its zoom where the browser lends them.
//
// Owns: the track and what it can. A refusal is a state, not an error: the call goes on with voice alone.
// Never: sends (link/rtc.svelte.ts), keeps a picture (photo.ts).

import type { CameraSource } from '../link/rtc.svelte';

export type CameraState = 'off' | 'asking' | 'ready' | 'refused' | 'missing';

/** What phones encode with ease and experts read type plates on. */
const WISH = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } } as const;
const ANNOUNCED = { width: 1280, height: 720 };

/** Of the Media Capture extensions; TypeScript's library does not know them yet. */
interface Able extends MediaTrackCapabilities {
  torch?: boolean;
  zoom?: { min: number; max: number; step: number };
}
interface Set_ extends MediaTrackSettings {
  zoom?: number;
}
interface Capture {
  getPhotoCapabilities(): Promise<unknown>;
}

export class Camera implements CameraSource {
  state: CameraState = $state('off');
  track: MediaStreamTrack | null = $state.raw(null);
  /** More than one: it can be turned round. */
  count = $state(0);
  /** null: this camera has no lamp, or the browser does not lend it. */
  torch: boolean | null = $state(null);
  zoom: { now: number; min: number; max: number; step: number } | null = $state.raw(null);
  turning = $state(false);

  #wanted = false;

  get asking(): boolean {
    return this.state === 'asking' || this.turning;
  }

  get size(): { width: number; height: number } {
    const { width, height } = this.track?.getSettings() ?? {};
    return width && height ? { width, height } : ANNOUNCED;
  }

  /** The one that looks away from the person, if there is one. */
  async start(): Promise<void> {
    if (this.state === 'asking' || this.state === 'ready') return;
    this.#wanted = true;
    this.state = 'asking';
    await this.#open({ facingMode: { ideal: 'environment' } });
  }

  stop(): void {
    this.#wanted = false;
    this.#release();
    this.state = 'off';
  }

  /** To the other side; where cameras have no sides, to the next one. */
  async turn(): Promise<void> {
    const before = this.track?.getSettings();
    if (!before || this.turning) return;
    this.turning = true;
    const all = await this.#list();
    const next = all[(all.findIndex((d) => d.deviceId === before.deviceId) + 1) % Math.max(1, all.length)];
    const other = before.facingMode === 'environment' ? 'user' : before.facingMode === 'user' ? 'environment' : null;
    // Most phones open one camera at a time only.
    this.#release();
    const opened = await this.#open(other ? { facingMode: { exact: other } } : { deviceId: { exact: next?.deviceId ?? '' } });
    if (!opened && this.#wanted) await this.#open(before.deviceId ? { deviceId: { exact: before.deviceId } } : {});
    this.turning = false;
  }

  async setTorch(on: boolean): Promise<void> {
    await this.#apply({ torch: on }, () => (this.torch = on));
  }

  async setZoom(now: number): Promise<void> {
    await this.#apply({ zoom: now }, () => this.zoom && (this.zoom = { ...this.zoom, now }));
  }

  async #apply(set: { torch?: boolean; zoom?: number }, done: () => void): Promise<void> {
    try {
      await this.track?.applyConstraints({ advanced: [set as MediaTrackConstraintSet] });
      done();
    } catch {
      // The camera would not: the switch stays where it was.
    }
  }

  async #open(which: MediaTrackConstraints): Promise<boolean> {
    try {
      // No `mediaDevices`: the page came without TLS from another machine.
      if (!navigator.mediaDevices) throw new DOMException('', 'NotAllowedError');
      const stream = await navigator.mediaDevices.getUserMedia({ video: { ...WISH, ...which } });
      const track = stream.getVideoTracks()[0];
      if (!track || !this.#wanted) {
        track?.stop();
        return false;
      }
      track.onended = () => {
        // Unplugged, or taken by another program.
        if (this.track !== track) return;
        this.#release();
        this.state = 'missing';
      };
      this.track = track;
      this.state = 'ready';
      this.count = (await this.#list()).length;
      await this.#learn(track);
      return true;
    } catch (e) {
      const name = (e as DOMException).name;
      this.state = name === 'NotAllowedError' || name === 'SecurityError' ? 'refused' : 'missing';
      return false;
    }
  }

  async #learn(track: MediaStreamTrack): Promise<void> {
    // Chromium on phones knows lamp and zoom only once it has asked the device for its photo abilities.
    const Ctor = (globalThis as { ImageCapture?: new (t: MediaStreamTrack) => Capture }).ImageCapture;
    if (Ctor) await new Ctor(track).getPhotoCapabilities().catch(() => {});
    if (track !== this.track) return;
    const able = (track.getCapabilities?.() ?? {}) as Able;
    this.torch = able.torch ? false : null;
    const z = able.zoom;
    this.zoom = z && z.max > z.min ? { min: z.min, max: z.max, step: z.step || (z.max - z.min) / 20, now: (track.getSettings() as Set_).zoom ?? z.min } : null;
  }

  #release(): void {
    const track = this.track;
    this.track = null;
    this.torch = null;
    this.zoom = null;
    track?.stop();
  }

  async #list(): Promise<MediaDeviceInfo[]> {
    const all = await navigator.mediaDevices.enumerateDevices().catch(() => []);
    return all.filter((d) => d.kind === 'videoinput');
  }
}
