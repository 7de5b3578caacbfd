// One case as a technician lives it on a phone: calling, answering about recording, showing, receiving steps, photos, ending.
//
// Owns: the order of events, what may leave and what may be kept. Never: draws. The twin of glass-client/src/core.
// Elsewhere: the log (link/case), media (link/rtc), the camera (camera), which step is shown (steps).

import type { CaseCard, Outcome, ReceiptPayload } from '@bindings/payload';
import type { Answer, Participant, Session } from '@bindings/session';
import { untrack } from 'svelte';
import { app } from '../app.svelte';
import { OpenCase } from '../link/case.svelte';
import { Microphone } from '../link/microphone.svelte';
import { RtcSession } from '../link/rtc.svelte';
import { Relayed } from '../live/relayed.svelte';
import type { Bytes } from '../protocol/bytes';
import { newEventId } from '../protocol/id';
import { KIND } from '../protocol/kind';
import { mayCall, mayRecord } from '../protocol/session';
import { language } from '../strings/index.svelte';
import { fieldWords } from '../strings/field';
import { nameOf } from '../ui/moments';
import { Camera } from './camera.svelte';
import { photoName, takePhoto } from './photo';
import { Steps } from './steps.svelte';

/** The version of the notice's text (strings/field: notice). */
const NOTICE_VERSION = 'recording-phone-1';
/** The session this tab is in: after a reload it goes on there without being asked. */
const KEPT = 'lotse.field.session';

export interface Notice {
  watchers: string[];
  archivist: string | null;
}

export class FieldCall {
  readonly open: OpenCase;
  readonly mic = new Microphone(false);
  readonly camera = new Camera();
  readonly steps = new Steps();
  readonly relayed: Relayed;
  rtc: RtcSession | null = $state.raw(null);
  /** This tab is in the session. */
  inside = $state(false);
  busy = $state(false);
  problem = $state('');
  /** How far a photo is on its way, 0..1; null: none is. */
  photo: number | null = $state(null);
  /** The last session that ended while this tab was in it. */
  ended: Session | null = $state.raw(null);

  #sessionId: string | null = $state(null);
  #noticed = '';
  #returning = false;

  constructor(readonly caseId: string) {
    this.open = new OpenCase(caseId, app.link, app.me?.name ?? '', true);
    this.relayed = new Relayed(caseId);
  }

  close(): void {
    this.#leaveMedia();
    this.relayed.close();
    this.open.close();
  }

  /** The session that is called or running in this case. */
  get session(): Session | null {
    return this.open.session;
  }

  get me(): Participant | null {
    return (this.open.me && this.session?.participants[this.open.me]) || null;
  }

  get experts(): string[] {
    return Object.entries(this.session?.participants ?? {})
      .filter(([, p]) => p.present && p.role === 'expert')
      .map(([who]) => who);
  }

  /** An expert is there and nobody has answered for us yet. */
  get notice(): Notice | null {
    if (!this.inside || !this.me?.present || this.me.answer || this.experts.length === 0) return null;
    const archivist = Object.entries(this.session!.participants).find(([, p]) => p.present && p.role === 'archivist');
    return { watchers: this.experts, archivist: archivist?.[0] ?? null };
  }

  get mayKeep(): boolean {
    return this.session !== null && mayRecord(this.session);
  }

  /** A new session; camera and microphone are asked for within the press. `card`: of a case that was opened just now. */
  async call(card?: CaseCard): Promise<void> {
    const session = newEventId(app.link.now_ms());
    await this.#enter(session, KIND.sessionCalled, card);
  }

  /** Into the session that runs already: after a reload, from another device, after a long loss. */
  async goOn(): Promise<void> {
    const s = this.session;
    if (s) await this.#enter(s.id, s.caller === this.open.me ? KIND.sessionCalled : KIND.sessionJoined);
  }

  /** Was this tab in the session that runs? */
  get wasInside(): boolean {
    return this.session !== null && sessionStorage.getItem(KEPT) === this.session.id;
  }

  /** What follows from the log; asked whenever something may have changed. */
  settle(): void {
    const s = this.session;
    if (this.#sessionId && this.open.caughtUp) {
      const ours = this.open.view.sessions.list.find((x) => x.id === this.#sessionId);
      if (ours?.ended_at_ms !== undefined && this.inside) {
        this.ended = ours;
        this.inside = false;
        this.#leaveMedia();
        return;
      }
    }
    if (!this.inside || !s || s.id !== this.#sessionId) return;
    const instructions = this.open.view.instructions.filter((i) => i.session === s.id);
    const read = this.open.caughtUp;
    untrack(() => this.steps.take(instructions, read));
    if (this.me && !this.me.present && app.link.state === 'open') void this.#comeBack(s);
    if (this.me?.present && !this.rtc) {
      this.rtc = new RtcSession(app.link, this.caseId, s.id, this.mic, this.camera);
      this.rtc.allow(false);
      this.rtc.start();
    }
    // As the glasses: only after an answer, while an expert is there.
    this.rtc?.allow(this.open.me !== null && mayCall(s, this.open.me) && this.experts.length > 0);
  }

  /** The words of the notice are on the screen: says so in the log, once for each who is named. */
  async noticeShown(text: string): Promise<void> {
    const n = this.notice;
    const s = this.session;
    const key = JSON.stringify([s?.id, n, text]);
    if (!n || !s || this.#noticed === key) return;
    this.#noticed = key;
    const payload = { language: language(), text_version: NOTICE_VERSION, text, watchers: n.watchers, archivist: n.archivist };
    await this.open.commit({ kind: KIND.noticeShown, session: s.id, payload }).catch(() => (this.#noticed = ''));
  }

  /** The answer about recording, a withdrawal, or a later yes. */
  async answer(answer: Answer): Promise<void> {
    const s = this.session;
    if (!s) return;
    const kind = { record: KIND.consentRecord, call_only: KIND.consentCallOnly, refused: KIND.consentRefused }[answer];
    await this.#try(() => this.open.commit({ kind, session: s.id }));
    if (this.problem) return;
    // Who sends neither picture nor voice need not wonder whether the lens is on.
    if (answer === 'refused') {
      this.mic.stop();
      this.camera.stop();
      this.rtc?.republish();
    } else await this.startDevices();
  }

  async end(): Promise<void> {
    const s = this.session;
    if (!s) return;
    // The expert says how it came out; from here it is open.
    const payload: Outcome = { result: 'open', note: '' };
    await this.#try(() => this.open.commit({ kind: KIND.sessionEnded, session: s.id, payload }));
  }

  /** Puts receipts into the log. */
  file(receipts: readonly ReceiptPayload[]): void {
    const session = this.#sessionId;
    for (const payload of receipts) {
      this.open.commit({ kind: KIND.receipt, ...(session ? { session } : {}), payload }).catch((e: unknown) => {
        if (payload.state === 'done' || payload.state === 'refused') this.steps.undo(payload);
        this.#tell(e);
      });
    }
  }

  /** A photo into the case, tied to the moment it was taken. Only while recording is allowed: else nothing durable is made. */
  async takePhoto(video: HTMLVideoElement): Promise<void> {
    const s = this.session;
    const track = this.camera.track;
    if (!s || !track || this.photo !== null || !mayRecord(s)) return;
    this.photo = 0;
    const w = fieldWords();
    try {
      const at_ms = app.link.now_ms();
      const picture = await takePhoto(track, video);
      if (!picture) throw new Error(w.photo.failed);
      const plain: Bytes = new Uint8Array(await picture.arrayBuffer());
      // The yes may have been taken back while the camera took its time.
      if (!this.mayKeep) throw new Error(w.photo.stopped);
      const sealed = await this.open.upload(plain, (part) => (this.photo = part));
      if (!this.mayKeep) throw new Error(w.photo.stopped);
      const file = { name: photoName(at_ms, picture.type), mime: picture.type || 'image/jpeg', size: plain.length };
      await this.open.commit({ kind: KIND.message, session: s.id, at_ms, payload: { text: '', file }, attachments: [sealed] });
      app.say(w.photo.saved);
    } catch (e) {
      this.#tell(e);
    } finally {
      this.photo = null;
    }
  }

  async startDevices(): Promise<void> {
    await Promise.all([this.camera.start(), this.mic.start()]);
    this.rtc?.republish();
  }

  async turnCamera(): Promise<void> {
    await this.camera.turn();
    this.rtc?.republish();
  }

  /** Another window took the call: here again. */
  takeBack(): void {
    this.rtc?.retake();
  }

  names(who: readonly string[]): string {
    return who.map((w) => nameOf(this.open.view, w)).join(', ');
  }

  async #enter(session: string, kind: string, card?: CaseCard): Promise<void> {
    if (this.busy) return;
    this.ended = null;
    // Both are asked for while the browser still counts it as the press.
    if (this.me?.answer !== 'refused') void this.startDevices();
    await this.#try(async () => {
      if (card) await this.open.commit({ kind: KIND.card, payload: card });
      await this.open.commit({ kind, session });
      this.#sessionId = session;
      sessionStorage.setItem(KEPT, session);
      this.inside = true;
    });
    if (!this.inside) this.#leaveMedia();
  }

  /** After a long loss the server counts us as gone: enter again, the answer stands. */
  async #comeBack(s: Session): Promise<void> {
    if (this.#returning) return;
    this.#returning = true;
    const kind = s.caller === this.open.me ? KIND.sessionCalled : KIND.sessionJoined;
    await this.open.commit({ kind, session: s.id }).catch(() => {});
    this.#returning = false;
  }

  #leaveMedia(): void {
    this.rtc?.stop();
    this.rtc = null;
    this.mic.stop();
    this.camera.stop();
  }

  async #try(act: () => Promise<unknown>): Promise<void> {
    this.busy = true;
    this.problem = '';
    try {
      await act();
    } catch (e) {
      this.problem = e instanceof Error && e.message ? e.message : fieldWords().failed;
    } finally {
      this.busy = false;
    }
  }

  #tell(e: unknown): void {
    app.say(e instanceof Error && e.message ? e.message : fieldWords().failed, 'bad');
  }
}
