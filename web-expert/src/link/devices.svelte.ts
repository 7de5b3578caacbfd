// Which microphones and loudspeakers there are, and which were chosen.
//
// Owns: the list as it changes, what is kept in this browser. Never: opens a device (microphone.svelte.ts).

export type Kind = 'audioinput' | 'audiooutput';

export interface Device {
  id: string;
  /** The browser's name; empty before the microphone was released. */
  name: string;
}

type Sink = HTMLMediaElement & { setSinkId?(id: string): Promise<void> };

const KEPT: Record<Kind, string> = { audioinput: 'lotse.microphone', audiooutput: 'lotse.speaker' };

/** The browser lets a page choose where sound comes out. */
export const choosesSpeaker = typeof HTMLMediaElement !== 'undefined' && 'setSinkId' in HTMLMediaElement.prototype;

export function keptDevice(kind: Kind): string {
  try {
    return localStorage.getItem(KEPT[kind]) ?? '';
  } catch {
    return '';
  }
}

export function keepDevice(kind: Kind, id: string): void {
  try {
    localStorage.setItem(KEPT[kind], id);
  } catch {
    // Private windows may keep nothing: the choice holds for this page.
  }
}

/** The list as long as somebody looks at it. */
export class DeviceList {
  inputs: Device[] = $state.raw([]);
  outputs: Device[] = $state.raw([]);

  constructor() {
    navigator.mediaDevices?.addEventListener('devicechange', this.#ask);
    void this.#ask();
  }

  close(): void {
    navigator.mediaDevices?.removeEventListener('devicechange', this.#ask);
  }

  #ask = async (): Promise<void> => {
    const all = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
    const of = (kind: Kind) => all.filter((d) => d.kind === kind && d.deviceId !== '').map((d) => ({ id: d.deviceId, name: d.label }));
    this.inputs = of('audioinput');
    this.outputs = of('audiooutput');
  };
}

/** Where voices come out, for all elements of the page. */
class Speaker {
  id: string = $state(keptDevice('audiooutput'));

  choose(id: string): void {
    this.id = id;
    keepDevice('audiooutput', id);
  }

  /** Puts an element there; one that is gone falls back to the usual one. */
  async use(element: HTMLMediaElement, id = this.id): Promise<void> {
    if (!choosesSpeaker) return;
    const e = element as Sink;
    await e.setSinkId!(id).catch(() => e.setSinkId!('').catch(() => {}));
  }

  /** A short tone out of the chosen loudspeaker. */
  async test(): Promise<void> {
    const context = new AudioContext();
    const to = context.createMediaStreamDestination();
    const tone = context.createOscillator();
    const gain = context.createGain();
    const now = context.currentTime;
    gain.gain.setValueAtTime(0, now);
    gain.gain.linearRampToValueAtTime(0.25, now + 0.02);
    gain.gain.setValueAtTime(0.25, now + 0.5);
    gain.gain.linearRampToValueAtTime(0, now + 0.6);
    tone.frequency.setValueAtTime(523, now);
    tone.frequency.setValueAtTime(784, now + 0.3);
    tone.connect(gain).connect(to);
    const element = new Audio();
    element.srcObject = to.stream;
    await this.use(element);
    await element.play().catch(() => {});
    tone.start();
    tone.stop(now + 0.65);
    await new Promise((done) => (tone.onended = done));
    element.srcObject = null;
    await context.close();
  }
}

export const speaker = new Speaker();
