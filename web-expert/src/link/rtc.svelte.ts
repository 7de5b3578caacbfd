// Media of one session: answers the server's offers, sends microphone and camera, hands out pictures and voices.
//
// Owns: the PeerConnection, its restarts, the pointer channel, who speaks. Never: decides whether media may flow (the server does).
// Elsewhere: frames of the picture (live/frames.ts), the microphone (microphone.svelte.ts), the camera (field/camera.svelte.ts).

import type { ServerMessage } from '@bindings/command';
import type { PointerMessage } from '@bindings/payload';
import type { Leg, Line, Offer, TrackInfo } from '@bindings/signal';
import { newId } from '../protocol/id';
import { FrameHistory } from '../live/history';
import type { LiveLink } from './live.svelte';
import type { Microphone } from './microphone.svelte';
import { doubling, type RetryPolicy } from './retry';

/** `replaced`: another window of the same person has taken the place. */
export type RtcState = 'idle' | 'joining' | 'connected' | 'broken' | 'replaced';

/** A camera whose picture goes out as `main`. Its track may come later and change. */
export interface CameraSource {
  readonly track: MediaStreamTrack | null;
  readonly asking: boolean;
  /** Of the picture as it is sent, pixels. */
  readonly size: { width: number; height: number };
}

/** What this page publishes: one track of each source at most. */
type Source = 'voice' | 'main';

/** The label and limit of the contract (signal.rs). */
const POINTER_CHANNEL = 'pointer';
const MAX_POINTER_BYTES = 1_200;
/** Pointer and pen are dropped, not queued, when this much waits already. */
const MAX_POINTER_BUFFERED = 16 * 1024;
/** A pointer that says nothing for this long is taken away; the pen in motion speaks five times a second. */
const POINTER_KEPT_MS = 1_500;
/** Speaking is looked at five times a second. */
const SPEAK_MS = 200;
/** Audio level (0..1) above which somebody speaks. */
const SPEAKS = 0.015;
/** No offer or no connection within this long: start afresh. */
const JOIN_TIMEOUT_MS = 12_000;
/** The browser may find its way back by itself within this. */
const DISCONNECTED_MS = 4_000;
/** Legs are told once a second; none for this long after a reconnect: ours is gone. */
const LEGS_TIMEOUT_MS = 3_000;

export interface Downlink {
  mid: string;
  owner: string;
  info: TrackInfo;
  track: MediaStreamTrack;
  /** Its last 20 seconds; null for voices, and where the browser cannot keep them. */
  history: FrameHistory | null;
}

export class RtcSession {
  state: RtcState = $state('idle');
  legs: Leg[] = $state.raw([]);
  downlinks: Downlink[] = $state.raw([]);
  /** Pseudonyms that speak now. */
  speaking: Record<string, boolean> = $state({});
  /** Where others point, or that they draw: pseudonym → newest message. */
  pointers: Record<string, PointerMessage> = $state({});

  /** A mark in motion came. */
  onmarking: (from: string, m: Extract<PointerMessage, { t: 'marking' }>) => void = () => {};

  #onAnswered = (): void => {};
  /** Resolves when the first offer has been answered. */
  readonly answered = new Promise<void>((done) => (this.#onAnswered = done));

  #pc: RTCPeerConnection | null = null;
  #histories = new Map<string, FrameHistory>();
  #channel: RTCDataChannel | null = null;
  #lines = new Map<string, Line>();
  #own: TrackInfo[] = [];
  #allowed = true;
  #attempt = 0;
  /** The server's name of the leg whose offer was taken last. */
  #leg = 0;
  #timers: number[] = [];
  #watchdog = 0;
  #fading = new Map<string, number>();
  #offers: Promise<void> = Promise.resolve();
  #off: (() => void)[] = [];
  #wanted = false;

  constructor(
    private readonly link: LiveLink,
    private readonly caseId: string,
    private readonly session: string,
    private readonly mic: Microphone,
    /** Only a technician has one. With it, another window that takes the place keeps it. */
    private readonly camera: CameraSource | null = null,
    private readonly policy: RetryPolicy = doubling(),
  ) {}

  /** A browser's first connection takes longer than any other: it loads codecs and starts threads. They stay. */
  static warm(): void {
    const pc = new RTCPeerConnection();
    pc.addTransceiver('video', { direction: 'recvonly' });
    pc.addTransceiver('audio');
    void pc
      .createOffer()
      .catch(() => {})
      .finally(() => pc.close());
  }

  /** Connects, and keeps connecting until `stop`. */
  start(): void {
    if (this.#wanted) return;
    this.#wanted = true;
    this.#off.push(this.link.listen((m) => this.#received(m)));
    this.#off.push(this.link.whenOpen(() => this.#reopened()));
    this.#timers.push(window.setInterval(() => this.#listenWhoSpeaks(), SPEAK_MS));
  }

  stop(): void {
    if (!this.#wanted) return;
    this.#wanted = false;
    this.link.send({ type: 'rtc_leave', session: this.session });
    for (const off of this.#off) off();
    for (const t of this.#timers) clearTimeout(t);
    clearTimeout(this.#watchdog);
    this.#drop();
    this.state = 'idle';
  }

  /** A microphone or camera came, went or changed: join again when the number of tracks is another. */
  republish(): void {
    if (this.#wanted && String(this.#sources()) !== String(this.#own.map((o) => o.source))) this.#join();
    else void this.#sendTracks();
  }

  /** After another window took the place: here again. */
  retake(): void {
    if (this.state === 'replaced') this.#join();
  }

  /** May picture and voice leave? Until then their lines stand and carry nothing. */
  allow(on: boolean): void {
    if (this.#allowed === on) return;
    this.#allowed = on;
    void this.#sendTracks();
  }

  /** Is this pointer on a picture of ours? One that names none is. */
  isOnOurs(m: PointerMessage): boolean {
    return m.t !== 'pointer' || m.track === undefined || this.#own.some((o) => o.track === m.track);
  }

  /** Unordered and unreliable: gone is gone. */
  send(message: PointerMessage): void {
    const c = this.#channel;
    if (c?.readyState !== 'open' || c.bufferedAmount > MAX_POINTER_BUFFERED) return;
    const text = JSON.stringify(message);
    if (new TextEncoder().encode(text).length <= MAX_POINTER_BYTES) c.send(text);
  }

  /** Bytes, frames and losses as the browser counts them, for the connection pill. */
  async stats(): Promise<RTCStatsReport | null> {
    return (await this.#pc?.getStats().catch(() => null)) ?? null;
  }

  /** A track is announced while its device is still being asked for: it follows without another offer. */
  #sources(): Source[] {
    const sources: Source[] = [];
    if (this.mic.track || this.mic.state === 'asking') sources.push('voice');
    if (this.camera?.track || this.camera?.asking) sources.push('main');
    return sources;
  }

  #announce(source: Source): TrackInfo {
    const picture = source === 'main';
    const { width, height } = picture ? this.camera!.size : { width: 0, height: 0 };
    return { track: newId(), source, codec: picture ? 'vp8' : 'opus', clock_offset_us: this.link.clock.offset_us, width, height };
  }

  #join(): void {
    if (!this.#wanted) return;
    this.#drop();
    this.state = 'joining';
    this.#own = this.#sources().map((source) => this.#announce(source));
    this.link.send({
      type: 'rtc_join',
      case: this.caseId,
      session: this.session,
      publish: this.#own,
    });
    this.#watch();
  }

  /** A leg outlives its socket: media go on unless the server no longer counts us among its legs. */
  #reopened(): void {
    if (this.state === 'replaced') return;
    if (this.state !== 'connected') {
      this.#join();
      return;
    }
    const before = this.legs;
    window.setTimeout(() => {
      if (this.#wanted && this.legs === before && this.state !== 'replaced') this.#join();
    }, LEGS_TIMEOUT_MS);
  }

  #watch(ms = JOIN_TIMEOUT_MS): void {
    clearTimeout(this.#watchdog);
    this.#watchdog = window.setTimeout(() => {
      if (this.#wanted && this.state !== 'connected') this.#again();
    }, ms);
  }

  #again(): void {
    if (!this.#wanted || this.state === 'replaced') return;
    this.state = 'broken';
    this.#attempt++;
    clearTimeout(this.#watchdog);
    this.#watchdog = window.setTimeout(() => this.#join(), this.policy.delay(this.#attempt));
  }

  /** Two windows that each take the place back would never rest. */
  #yield(): void {
    clearTimeout(this.#watchdog);
    this.#drop();
    this.state = 'replaced';
  }

  #drop(): void {
    this.#channel = null;
    this.#pc?.close();
    this.#pc = null;
    this.#lines.clear();
    for (const h of this.#histories.values()) h.close();
    this.#histories.clear();
    this.downlinks = [];
    this.speaking = {};
    this.pointers = {};
  }

  #received(m: ServerMessage): void {
    if (!('session' in m) || m.session !== this.session || this.state === 'replaced') return;
    if (m.type === 'rtc_offer') {
      const { offer } = m;
      // Offers are answered one after the other.
      this.#offers = this.#offers.then(() => this.#answer(offer)).catch((e: unknown) => {
        console.warn('rtc: an offer could not be answered', e);
        this.#again();
      });
    } else if (m.type === 'rtc_legs') this.legs = m.legs;
    else if (m.type === 'rtc_closed' && m.reason === 'replaced' && this.camera) this.#yield();
    else if (m.type === 'rtc_closed') this.#again();
    else if (m.type === 'refused' && !m.id && this.state === 'joining') this.#again();
  }

  async #answer(offer: Offer): Promise<void> {
    if (!this.#wanted) return;
    // What was answered before was an offer for a leg that our last join has ended: it came late.
    if (this.#pc && offer.leg !== this.#leg) {
      this.#drop();
      this.state = 'joining';
      this.#watch();
    }
    this.#leg = offer.leg;
    const pc = this.#pc ?? this.#connection(offer.ice_servers ?? []);
    for (const line of [...offer.uplink, ...offer.downlink]) this.#lines.set(line.mid, line);
    await pc.setRemoteDescription({ type: 'offer', sdp: offer.sdp });
    if (pc !== this.#pc) return;
    for (const line of offer.uplink) {
      const t = pc.getTransceivers().find((x) => x.mid === line.mid);
      const own = this.#own.find((o) => o.track === line.info.track);
      if (t && own) {
        t.direction = 'sendonly';
        await t.sender.replaceTrack(this.#trackOf(own));
      }
    }
    const down = new Set(offer.downlink.map((l) => l.mid));
    for (const t of pc.getTransceivers()) {
      if (t.mid && down.has(t.mid)) t.direction = 'recvonly';
    }
    await pc.setLocalDescription(await pc.createAnswer());
    if (pc !== this.#pc) return;
    const sdp = pc.localDescription?.sdp ?? '';
    this.link.send({ type: 'rtc_answer', session: this.session, answer: { leg: offer.leg, rev: offer.rev, sdp } });
    this.#onAnswered();
    this.#showDownlinks(offer);
    if (this.camera) await this.#keepResolution(pc);
  }

  #connection(iceServers: RTCIceServer[]): RTCPeerConnection {
    const pc = new RTCPeerConnection({ iceServers, bundlePolicy: 'max-bundle', rtcpMuxPolicy: 'require' });
    this.#pc = pc;
    const channel = pc.createDataChannel(POINTER_CHANNEL, {
      negotiated: true,
      id: 1,
      ordered: false,
      maxRetransmits: 0,
    });
    channel.onmessage = (e) => this.#pointed(e.data as string);
    this.#channel = channel;
    pc.ontrack = ({ receiver, transceiver: { mid } }) => {
      const info = mid ? this.#lines.get(mid)?.info : undefined;
      if (!mid || !info || info.source === 'voice' || this.#histories.has(mid)) return;
      const history = FrameHistory.on(receiver, info);
      if (history) this.#histories.set(mid, history);
    };
    pc.onconnectionstatechange = () => {
      if (pc !== this.#pc) return;
      if (pc.connectionState === 'connected') {
        this.state = 'connected';
        this.#attempt = 0;
        clearTimeout(this.#watchdog);
      } else if (pc.connectionState === 'failed') this.#again();
      else if (pc.connectionState === 'disconnected') {
        this.state = 'broken';
        this.#watch(DISCONNECTED_MS);
      }
    };
    return pc;
  }

  /** Lines of the newest offer whose track stands; an unchanged one keeps its object, so that nothing flickers. */
  #showDownlinks(offer: Offer): void {
    const before = new Map(this.downlinks.map((d) => [d.mid, d]));
    const now: Downlink[] = [];
    for (const line of offer.downlink) {
      const t = this.#pc?.getTransceivers().find((x) => x.mid === line.mid);
      if (!t || t.currentDirection === 'inactive') continue;
      const same = before.get(line.mid);
      if (same && same.info.track === line.info.track && same.track === t.receiver.track) {
        now.push(same);
        continue;
      }
      const history = this.#histories.get(line.mid) ?? null;
      history?.use(line.info);
      now.push({ mid: line.mid, owner: line.owner, info: line.info, track: t.receiver.track, history });
    }
    this.downlinks = now;
  }

  #trackOf(own: TrackInfo): MediaStreamTrack | null {
    if (!this.#allowed) return null;
    return own.source === 'main' ? (this.camera?.track ?? null) : this.mic.track;
  }

  async #sendTracks(): Promise<void> {
    for (const own of this.#own) {
      const line = [...this.#lines.values()].find((l) => l.info.track === own.track);
      const t = this.#pc?.getTransceivers().find((x) => x.mid === line?.mid);
      await t?.sender.replaceTrack(this.#trackOf(own)).catch(() => {});
    }
  }

  /** On a thin line fewer pictures help more than blurred ones: an expert reads type plates. */
  async #keepResolution(pc: RTCPeerConnection): Promise<void> {
    const sender = pc.getTransceivers().find((t) => t.mid && this.#lines.get(t.mid)?.info.source === 'main')?.sender;
    if (!sender) return;
    const p = sender.getParameters() as RTCRtpSendParameters & { degradationPreference?: string };
    p.degradationPreference = 'maintain-resolution';
    // A browser that does not know it chooses by itself.
    await sender.setParameters(p).catch(() => {});
  }

  #pointed(text: string): void {
    try {
      const { from, data } = JSON.parse(text) as { from: string; data: PointerMessage };
      if (typeof from !== 'string') return;
      if (data.t === 'marking') {
        this.onmarking(from, data);
        return;
      }
      clearTimeout(this.#fading.get(from));
      if (data.t === 'off') delete this.pointers[from];
      else {
        this.pointers[from] = data;
        this.#fading.set(from, window.setTimeout(() => delete this.pointers[from], POINTER_KEPT_MS));
      }
    } catch {
      // Unreliable by design: a message that cannot be read is as good as lost.
    }
  }

  #listenWhoSpeaks(): void {
    for (const d of this.downlinks) {
      if (d.info.source !== 'voice') continue;
      const t = this.#pc?.getTransceivers().find((x) => x.mid === d.mid);
      const level = t?.receiver.getSynchronizationSources()[0]?.audioLevel ?? 0;
      const on = level > SPEAKS;
      if ((this.speaking[d.owner] ?? false) !== on) this.speaking[d.owner] = on;
    }
  }
}
