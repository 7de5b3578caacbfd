// One call as the expert lives it: taking it, answering about recording, freezing, instructing, ending.
//
// Owns: the order of events when a call is taken, what freezing, drawing and sending mean together.
// Never: draws. Elsewhere: the log (link/case), media (link/rtc), marks (board), the frozen picture (freezing), instructions
// on their way (sending), other experts at work (colleagues).

import type { CaseSummary } from '@bindings/command';
import type { FrameId } from '@bindings/ids';
import type { Annotation, Instruction, Outcome } from '@bindings/payload';
import type { Answer, Session } from '@bindings/session';
import { app } from '../app.svelte';
import { unwrap } from '../board/frame';
import { newScene, visible, type Scene } from '../board/scene';
import { OpenCase } from '../link/case.svelte';
import { localUs } from '../link/clock';
import { api } from '../link/http';
import { Microphone } from '../link/microphone.svelte';
import { RtcSession, type Downlink } from '../link/rtc.svelte';
import { KIND } from '../protocol/kind';
import { mayCall, mayRecord } from '../protocol/session';
import { language, words } from '../strings/index.svelte';
import { Colleagues } from './colleagues.svelte';
import { compress, type FrameTap } from './frames';
import { Freezing, type Frozen } from './freezing.svelte';
import { Sending } from './sending.svelte';

/** The version of the notice's text (strings: consent.notice). */
const NOTICE_VERSION = 'recording-1';
/** The pointer at most thirty times a second. */
const POINTER_MS = 33;
/** The media's first offer is waited for at most this long before the call's page is built. */
const ANSWERED_WITHIN_MS = 300;

export class LiveCall {
  readonly open: OpenCase;
  readonly mic = new Microphone();
  rtc: RtcSession | null = $state.raw(null);
  /** Our answer of this tab: media is wanted from here on. */
  taken = $state(false);
  taking = $state(false);
  takeProblem = $state('');
  readonly freezing = new Freezing((picture) => this.sending.prepare(picture, this.session?.id));
  readonly sending: Sending;
  readonly colleagues: Colleagues;
  scene: Scene = $state.raw(newScene());
  text = $state('');
  tap: FrameTap | null = null;
  /** Whose picture was put on stage by hand. */
  chosen: string | null = $state(null);

  /** From the list of cases: the queue names only calls that still wait. */
  #listed: CaseSummary | null = $state.raw(null);
  /** The list was asked. */
  asked = $state(false);
  #off: (() => void)[] = [];
  #lastPointer = 0;
  #rejoining = false;
  #noticing = false;
  /** The picture whose marks are being sent. */
  #leaving: Frozen | null = null;

  constructor(readonly caseId: string) {
    this.open = new OpenCase(caseId, app.link, app.me?.name ?? '', true);
    this.sending = new Sending(this.open);
    this.colleagues = new Colleagues(
      (m) => this.rtc?.send(m),
      async (frame) => (this.camera?.info.track === frame.track ? ((await this.camera.history?.show(frame.rtp % 2 ** 32)) ?? null) : null),
    );
    // While the question is read.
    this.open.warm();
    RtcSession.warm();
    void api
      .cases()
      .then(({ cases }) => (this.#listed = cases.find((c) => c.case === caseId) ?? null))
      .catch(() => {})
      .finally(() => (this.asked = true));
    this.#off.push(
      app.link.listen((m) => {
        if (m.type === 'case_changed' && m.summary.case === caseId) this.#listed = m.summary;
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
    return this.open.session;
  }

  get me(): string | null {
    return this.open.me;
  }

  get myAnswer(): Answer | null {
    return (this.me && this.session?.participants[this.me]?.answer) || null;
  }

  /** The picture on stage: whose was chosen, else the caller's, else any. */
  get camera(): Downlink | null {
    const video = this.rtc?.downlinks.filter((d) => d.info.source !== 'voice') ?? [];
    const main = video.filter((d) => d.info.source === 'main');
    const of = (who: string | null | undefined) => main.find((d) => d.owner === who);
    return of(this.chosen) ?? of(this.session?.caller) ?? main[0] ?? video[0] ?? null;
  }

  /** Whose picture is looked at or drawn on. */
  get source(): string | null {
    return this.frozen?.owner ?? this.camera?.owner ?? null;
  }

  /** Does somebody point at what is on stage here? Main and preview of one person are one picture. */
  isOnStage(track: string | undefined): boolean {
    if (track === undefined) return true;
    const named = this.rtc?.downlinks.find((d) => d.info.track === track);
    return named !== undefined && named.owner === this.camera?.owner;
  }

  /** Whose picture can be had, and whether it is on stage. */
  get cameras(): Record<string, boolean> {
    const main = this.rtc?.downlinks.filter((d) => d.info.source === 'main') ?? [];
    return Object.fromEntries(main.map((d) => [d.owner, d.owner === this.camera?.owner]));
  }

  /** Puts somebody's picture on stage; marks on a frozen one are put away first. */
  choose(who: string): void {
    if (this.frozen) this.unfreeze();
    this.chosen = who;
  }

  /** Foreign clients that came to watch after our answer are said at once, and the log learns so: until then nothing reaches them. */
  async noticeWatchers(): Promise<void> {
    const s = this.session;
    const mine = this.me ? s?.participants[this.me] : undefined;
    if (!s || !mine?.unaware || !mine.present || this.#noticing) return;
    this.#noticing = true;
    try {
      const watching = Object.values(s.participants).filter((p) => p.present && p.way === 'watch');
      app.say(words().people.newWatcher(watching.map((p) => p.name ?? '').join(', ')));
      await this.#logNotice(s.id);
    } finally {
      this.#noticing = false;
    }
  }

  close(): void {
    this.rtc?.stop();
    this.mic.stop();
    this.tap?.stop();
    for (const off of this.#off) off();
    this.freezing.release();
    this.colleagues.close();
    this.sending.close();
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
      // The way for media is made meanwhile; nothing flows on it before the answer is in the log.
      await this.open.commit({ kind: KIND.sessionJoined, session }, () => this.#startMedia(session));
      await this.#logRead(session);
      if (this.myAnswer !== answer) await this.#answer(session, answer);
      // Building the page takes as long as the network's part of connecting; before it, the connection would wait for it.
      await Promise.race([this.rtc?.answered, new Promise((r) => setTimeout(r, ANSWERED_WITHIN_MS))]);
      this.taken = true;
      void micAsked.then(() => this.rtc?.republish());
    } catch (e) {
      this.takeProblem = e instanceof Error ? e.message : String(e);
      if (!this.taken) {
        this.rtc?.stop();
        this.rtc = null;
      }
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

  get frozen(): Frozen | null {
    return this.freezing.now;
  }

  /** Another microphone, from now on. */
  async chooseMic(device: string): Promise<void> {
    await this.mic.choose(device);
    this.rtc?.republish();
  }

  /** Freezes the frame on screen; true when there is one to draw on. */
  freeze(): boolean {
    if (this.frozen || this.freezing.choosing) return true;
    this.#blank();
    return this.freezing.freeze(this.camera, this.tap);
  }

  /** The picture a colleague draws on, to draw on it too. */
  async join(who: string, frame: FrameId): Promise<boolean> {
    const kept = this.colleagues.pictures[who];
    if (visible(this.scene.ops).length > 0 || this.camera?.info.track !== frame.track || !kept?.bitmap) return false;
    this.#blank();
    return this.freezing.freezeAt(this.camera, this.tap, frame.rtp, kept.bitmap);
  }

  /** Back to live; marks that were not sent are gone. */
  unfreeze(): void {
    this.#thaw();
    this.rtc?.send({ t: 'off' });
  }

  #thaw(): void {
    this.freezing.release();
    this.#blank();
    this.colleagues.putAway();
  }

  /** My marks as they are now, the one in motion with them; null: the pen is up. */
  drawing(draft: { id: string; annotation: Annotation } | null): void {
    const frozen = this.frozen;
    if (frozen) {
      const { ops } = this.scene;
      this.colleagues.draw({ track: frozen.track, rtp: frozen.frameRtp }, () => (draft ? [...visible(ops), draft] : visible(ops)), draft !== null);
    } else if (!draft) this.rtc?.send({ t: 'off' });
  }

  #blank(): void {
    this.scene = newScene();
    this.text = '';
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
    // A second Enter sends nothing again.
    if (this.#leaving === frozen) return;
    this.#leaving = frozen;
    // The glasses stay with "is drawing" until they show what was drawn.
    await this.sending.send(body, session.id, this.freezing.picture(), () => this.#thaw());
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
      const picture = held ? await this.freezing.picture() : await compress(got.bitmap);
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
    const track = this.camera?.info.track;
    this.rtc?.send({ t: 'pointer', at: { x: at.x, y: at.y }, ...(track ? { track } : {}) });
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
    this.rtc.onmarking = (from, m) => this.colleagues.heard(from, m);
    this.rtc.start();
  }

  /** Waits until the log of which we are now a member has been read, so that the notice names everybody. */
  async #logRead(session: string): Promise<void> {
    const until = performance.now() + 5_000;
    while (performance.now() < until) {
      const mine = this.open.sessionOf(session)?.participants[this.me ?? ''];
      if (mine?.present) return;
      await new Promise((r) => setTimeout(r, 10));
    }
  }

  async #answer(session: string, answer: Answer): Promise<void> {
    await this.#logNotice(session);
    const kind = { record: KIND.consentRecord, call_only: KIND.consentCallOnly, refused: KIND.consentRefused }[answer];
    await this.open.commit({ kind, session });
  }

  /** What was shown: who watches, who keeps. */
  async #logNotice(session: string): Promise<void> {
    const s = this.session;
    const t = words().consent;
    const present = Object.entries(s?.participants ?? {}).filter(([who, p]) => p.present && who !== this.me);
    const archivist = present.find(([, p]) => p.role === 'archivist')?.[0] ?? null;
    // A foreign client that only brings a picture sees nothing.
    const people = present.filter(([, p]) => p.role !== 'archivist' && p.way !== 'publish').map(([who]) => who);
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
  }

  /** May media flow between us and this participant? */
  mayFlow(who: string): boolean {
    return this.session ? mayCall(this.session, who) : false;
  }
}
