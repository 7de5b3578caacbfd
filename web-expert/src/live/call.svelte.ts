// One call as the expert lives it: taking it, answering about recording, freezing, instructing, ending.
//
// Owns: the order of events when a call is taken, the frozen picture, instructions on their way.
// Never: draws. Elsewhere: the log (link/case), media (link/rtc), marks (board).

import type { CaseSummary } from '@bindings/command';
import type { Instruction, Outcome } from '@bindings/payload';
import type { Answer, Session } from '@bindings/session';
import { app } from '../app.svelte';
import { unwrap, timeOf } from '../board/frame';
import { newScene, visible, type Scene } from '../board/scene';
import { CommitError, OpenCase } from '../link/case.svelte';
import { localUs } from '../link/clock';
import { api } from '../link/http';
import { Microphone } from '../link/microphone.svelte';
import { RtcSession, type Downlink } from '../link/rtc.svelte';
import { toBase64, type Bytes } from '../protocol/bytes';
import { openChecked, seal } from '../protocol/item';
import { KIND } from '../protocol/kind';
import { readRelay, writeRelay } from '../protocol/relay';
import { mayCall, mayRecord, openSession } from '../protocol/session';
import { language, words } from '../strings/index.svelte';
import { sniff } from '../ui/pictures';
import { compress, fitting, type FrameTap, type Grabbed } from './frames';

/** A relayed picture travels in one live message of at most 256 KiB, as base64: sealed it may have this much. */
const MAX_RELAY_BYTES = 160 * 1024;
/** The version of the notice's text (strings: consent.notice). */
const NOTICE_VERSION = 'recording-1';
/** `drawing` at most five times a second, the pointer at most thirty. */
const DRAWING_MS = 200;
const POINTER_MS = 33;

export interface Frozen extends Grabbed {
  /** Compressed while the expert draws, so that Enter does not wait for it. */
  picture: Promise<Blob | null>;
  track: string;
  /** Unwrapped. */
  frameRtp: number;
  /** Server UTC of the frame, ms; of the freeze where the track has no clock of its own. */
  at_ms: number;
}

/** An instruction that is not in the log yet, or whose picture only this tab has. */
export interface Outgoing {
  key: string;
  url: string;
  state: 'sending' | 'sent' | 'failed';
  /** The event, once committed. */
  id: string | null;
  body: Instruction;
  why: string;
  again: () => void;
}

export class LiveCall {
  readonly open: OpenCase;
  readonly mic = new Microphone();
  rtc: RtcSession | null = $state.raw(null);
  /** Our answer of this tab: media is wanted from here on. */
  taken = $state(false);
  taking = $state(false);
  takeProblem = $state('');
  frozen: Frozen | null = $state.raw(null);
  /** The frame is chosen, its pixels are on the way. */
  freezing = $state(false);
  scene: Scene = $state.raw(newScene());
  text = $state('');
  outgoing: Outgoing[] = $state([]);
  /** Pictures that came by relay: instruction → object URL. */
  relayed: Record<string, string> = $state({});
  tap: FrameTap | null = null;

  /** From the list of cases: the queue names only calls that still wait. */
  #listed: CaseSummary | null = $state.raw(null);
  /** The list was asked. */
  asked = $state(false);
  #off: (() => void)[] = [];
  #lastDrawing = 0;
  #lastPointer = 0;
  #rejoining = false;

  constructor(readonly caseId: string) {
    this.open = new OpenCase(caseId, app.link, app.me?.name ?? '');
    void api
      .cases()
      .then(({ cases }) => (this.#listed = cases.find((c) => c.case === caseId) ?? null))
      .catch(() => {})
      .finally(() => (this.asked = true));
    this.#off.push(
      app.link.listen((m) => {
        if (m.type === 'case_changed' && m.summary.case === caseId) this.#listed = m.summary;
        if (m.type === 'relayed' && m.case === caseId) void this.#relayed(m.item);
      }),
    );
  }

  /** The session that runs, from the log or, before we may read it, from the queue. */
  get sessionId(): string | null {
    const known = this.session?.id;
    if (known) return known;
    return this.summary?.session ?? null;
  }

  /** What the lists say of this case, before its log may be read. */
  get summary(): CaseSummary | null {
    return app.link.calls?.find((c) => c.summary.case === this.caseId)?.summary ?? this.#listed;
  }

  get session(): Session | null {
    return openSession(this.open.view.sessions) ?? null;
  }

  get me(): string | null {
    return this.open.me;
  }

  get myAnswer(): Answer | null {
    return (this.me && this.session?.participants[this.me]?.answer) || null;
  }

  /** Camera pictures of the session, `main` first. */
  get camera(): Downlink | null {
    const video = this.rtc?.downlinks.filter((d) => d.info.source !== 'voice') ?? [];
    return video.find((d) => d.info.source === 'main') ?? video[0] ?? null;
  }

  close(): void {
    this.rtc?.stop();
    this.mic.stop();
    this.tap?.stop();
    for (const off of this.#off) off();
    for (const url of Object.values(this.relayed)) URL.revokeObjectURL(url);
    for (const o of this.outgoing) URL.revokeObjectURL(o.url);
    this.open.close();
  }

  /** Takes the call with this answer: joins case and session, writes the notice and the answer, then media. */
  async take(answer: Answer): Promise<void> {
    const session = this.sessionId;
    if (!session || this.taking) return;
    this.taking = true;
    this.takeProblem = '';
    // Asked within the click, while the browser still counts it as one.
    const micAsked = this.mic.start();
    try {
      await this.open.commit({ kind: KIND.sessionJoined, session });
      await this.#logRead(session);
      if (this.myAnswer !== answer) await this.#answer(session, answer);
      this.taken = true;
      await Promise.race([micAsked, new Promise((r) => setTimeout(r, 1500))]);
      this.#startMedia(session);
      void micAsked.then(() => this.rtc?.republish());
    } catch (e) {
      this.takeProblem = e instanceof Error ? e.message : String(e);
    } finally {
      this.taking = false;
    }
  }

  /** Changes the answer during the call: a withdrawal, or a later yes. */
  async answer(answer: Answer): Promise<void> {
    if (this.session) await this.#answer(this.session.id, answer);
  }

  /** After a long loss the server counts us as gone: enter again, the answer stands. */
  async comeBack(): Promise<void> {
    const s = this.session;
    if (!s || !this.me || !this.taken || this.#rejoining) return;
    if (s.participants[this.me]?.present !== false || app.link.state !== 'open') return;
    this.#rejoining = true;
    try {
      await this.open.commit({ kind: KIND.sessionJoined, session: s.id });
    } finally {
      this.#rejoining = false;
    }
  }

  async connectMic(): Promise<void> {
    await this.mic.start();
    this.rtc?.republish();
  }

  /** Freezes the frame on screen; true when there is one to draw on. The choice of the frame is made before this returns. */
  freeze(): boolean {
    const camera = this.camera;
    if (this.frozen || this.freezing) return true;
    const grabbing = camera && this.tap?.ready ? this.tap.grab() : null;
    if (!camera || !grabbing) return false;
    this.freezing = true;
    this.scene = newScene();
    this.text = '';
    const now_us = localUs() + app.link.clock.offset_us;
    void grabbing.then((grabbed) => {
      if (grabbed && this.freezing) {
        const frameRtp = unwrap(grabbed.rtp, camera.info, now_us);
        const at_us = timeOf(frameRtp, camera.info) ?? now_us;
        this.frozen = { ...grabbed, picture: compress(grabbed.bitmap).catch(() => null), track: camera.info.track, frameRtp, at_ms: at_us / 1000 };
      } else grabbed?.bitmap.close();
      this.freezing = false;
    });
    return true;
  }

  /** Back to live; marks that were not sent are gone. */
  unfreeze(): void {
    this.frozen?.bitmap.close();
    this.frozen = null;
    this.freezing = false;
    this.scene = newScene();
    this.text = '';
    this.rtc?.send({ t: 'off' });
  }

  /** Sends the frozen picture and its marks as an instruction and returns to live. */
  async send(): Promise<void> {
    const frozen = this.frozen;
    const session = this.session;
    const marks = visible(this.scene.ops).map((m) => m.annotation);
    if (!frozen || !session || (marks.length === 0 && !this.text.trim())) return;
    const body: Instruction = {
      frame: { track: frozen.track, rtp: frozen.frameRtp },
      confidence: frozen.confidence,
      width: frozen.width,
      height: frozen.height,
      at_ms: app.link.now_ms(),
      text: this.text.trim(),
      marks,
    };
    // Back to live at once; a second Enter finds nothing to send again.
    this.unfreeze();
    const picture = await frozen.picture;
    const out: Outgoing = {
      key: crypto.randomUUID(),
      url: picture ? URL.createObjectURL(picture) : '',
      state: 'sending',
      id: null,
      body,
      why: '',
      again: () => {},
    };
    this.outgoing.push(out);
    // The proxied object of the list, so that later changes are seen.
    const item = this.outgoing.at(-1)!;
    item.again = () => void this.#instruct(item, session.id, picture);
    await this.#instruct(item, session.id, picture);
  }

  /** Keeps the picture on screen in the case; only while recording is allowed. */
  async photo(): Promise<void> {
    const session = this.session;
    const camera = this.camera;
    if (!session || !mayRecord(session)) {
      app.say(words().live.photoNeeds);
      return;
    }
    const held = this.frozen;
    const now_us = localUs() + app.link.clock.offset_us;
    const got = held ?? (await this.tap?.grab()) ?? null;
    if (!got || !camera) return;
    try {
      const picture = held ? await held.picture : await compress(got.bitmap);
      if (!picture) return;
      const rtp = held ? held.frameRtp : unwrap(got.rtp, camera.info, now_us);
      const attachment = await this.open.upload(new Uint8Array(await picture.arrayBuffer()));
      await this.open.commit({
        kind: KIND.snapshot,
        session: session.id,
        payload: {
          frame: { track: held?.track ?? camera.info.track, rtp },
          confidence: got.confidence,
          width: got.width,
          height: got.height,
          mime: picture.type,
        },
        attachments: [attachment],
      });
      app.say(words().live.photoSaved);
    } catch (e) {
      app.say(e instanceof Error && e.message ? e.message : words().error.unexpected, 'bad');
    } finally {
      if (!held) got.bitmap.close();
    }
  }

  pointAt(at: { x: number; y: number } | null): void {
    if (!at) {
      this.rtc?.send({ t: 'off' });
      return;
    }
    const now = performance.now();
    if (this.frozen || now - this.#lastPointer < POINTER_MS) return;
    this.#lastPointer = now;
    this.rtc?.send({ t: 'pointer', at: { x: at.x, y: at.y } });
  }

  drawing(on: boolean): void {
    const now = performance.now();
    if (!on) this.rtc?.send({ t: 'off' });
    else if (now - this.#lastDrawing >= DRAWING_MS) {
      this.#lastDrawing = now;
      this.rtc?.send({ t: 'drawing' });
    }
  }

  async end(outcome: Outcome): Promise<void> {
    const session = this.session;
    if (!session) return;
    await this.open.commit({ kind: KIND.sessionEnded, session: session.id, payload: outcome });
    this.rtc?.stop();
    this.mic.stop();
  }

  #startMedia(session: string): void {
    if (this.rtc) return;
    this.rtc = new RtcSession(app.link, this.caseId, session, this.mic);
    this.rtc.start();
  }

  /** Waits until the log of which we are now a member has been read, so that the notice names everybody. */
  async #logRead(session: string): Promise<void> {
    const until = performance.now() + 5_000;
    while (performance.now() < until) {
      const mine = this.open.view.sessions.list.find((s) => s.id === session)?.participants[this.me ?? ''];
      if (mine?.present) return;
      await new Promise((r) => setTimeout(r, 50));
    }
  }

  async #answer(session: string, answer: Answer): Promise<void> {
    const s = this.session;
    const t = words().consent;
    const present = Object.entries(s?.participants ?? {}).filter(([who, p]) => p.present && who !== this.me);
    const archivist = present.find(([, p]) => p.role === 'archivist')?.[0] ?? null;
    const people = present.filter(([, p]) => p.role !== 'archivist').map(([who]) => who);
    const names = people.map((who) => this.open.view.people[who]?.name || words().roles.technician).join(', ');
    await this.open.commit({
      kind: KIND.noticeShown,
      session,
      payload: {
        language: language(),
        text_version: NOTICE_VERSION,
        text: t.notice(names || words().roles.technician, archivist ? t.archivistKeeps : t.archivistNone),
        watchers: people,
        archivist,
      },
    });
    const kind = { record: KIND.consentRecord, call_only: KIND.consentCallOnly, refused: KIND.consentRefused }[answer];
    await this.open.commit({ kind, session });
  }

  async #instruct(out: Outgoing, session: string, picture: Blob | null): Promise<void> {
    out.state = 'sending';
    out.why = '';
    try {
      const s = this.open.view.sessions.list.find((x) => x.id === session);
      out.id =
        (s && mayRecord(s) && picture ? await this.#instructKept(out, session, picture) : null) ??
        (await this.#instructRelayed(out, session, picture));
      out.state = 'sent';
    } catch (e) {
      out.state = 'failed';
      out.why = e instanceof Error ? e.message : '';
    }
  }

  /** With the picture as an attachment; null when recording was withdrawn meanwhile. */
  async #instructKept(out: Outgoing, session: string, picture: Blob): Promise<string | null> {
    const sealed = await this.open.upload(new Uint8Array(await picture.arrayBuffer()));
    try {
      const { id } = await this.open.commit({
        kind: KIND.instruction,
        session,
        payload: $state.snapshot(out.body),
        attachments: [sealed],
      });
      return id;
    } catch (e) {
      if (e instanceof CommitError && e.error.code === 'not_recording') return null;
      throw e;
    }
  }

  /** Without recording the log keeps the marks; the picture passes through memory to those present. */
  async #instructRelayed(out: Outgoing, session: string, picture: Blob | null): Promise<string> {
    const { id } = await this.open.commit({ kind: KIND.instruction, session, payload: $state.snapshot(out.body) });
    // What is committed stands, with its picture or without.
    const small = picture && (await fitting(picture, MAX_RELAY_BYTES).catch(() => null));
    if (small) {
      const plain = writeRelay({ instruction: id, mime: small.type }, new Uint8Array(await small.arrayBuffer()));
      const sealed = await seal(plain);
      const item = { digest: sealed.digest, key: sealed.key, bytes: toBase64(sealed.bytes) };
      app.link.send({ type: 'relay', case: this.caseId, session, item });
    }
    return id;
  }

  async #relayed(item: { digest: string; key?: string; bytes?: string }): Promise<void> {
    if (!item.key || !item.bytes) return;
    try {
      const raw = Uint8Array.from(atob(item.bytes), (c) => c.charCodeAt(0)) as Bytes;
      const read = readRelay(await openChecked(item.digest, item.key, raw));
      if (!read || this.relayed[read.head.instruction]) return;
      const blob = new Blob([read.picture], { type: sniff(read.picture) });
      this.relayed[read.head.instruction] = URL.createObjectURL(blob);
    } catch {
      // Not readable: the instruction stands without its picture.
    }
  }

  /** May media flow between us and this participant? */
  mayFlow(who: string): boolean {
    return this.session ? mayCall(this.session, who) : false;
  }
}
