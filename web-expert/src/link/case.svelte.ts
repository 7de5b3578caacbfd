// One case on the live socket: its log folded into a view, and this tab's own events on their way.
//
// Owns: the case key of this tab, device numbers, what is not committed yet, resuming by seq, and which session runs, also before
// a long log has been read.
// Never: decides what to say. Elsewhere: checking the chain (protocol/log.ts), meaning (protocol/fold.ts).

import type { ItemRef, ServerMessage } from '@bindings/command';
import type { AuthorFields, SignedHead } from '@bindings/envelope';
import type { Role } from '@bindings/policy';
import type { ApiError } from '@bindings/ApiError';
import type { Session } from '@bindings/session';
import { toBase64, utf8, type Bytes } from '../protocol/bytes';
import { bindingText, coarse, sign, writeAuthor } from '../protocol/envelope';
import { applyEntry, newCaseView, type CaseView, type Segment } from '../protocol/fold';
import { newEventId, newId } from '../protocol/id';
import { seal, type Sealed } from '../protocol/item';
import { deviceKey, newSigningPair, type SigningPair } from '../protocol/keys';
import { KIND } from '../protocol/kind';
import { CaseLog, type Checked, type Entry } from '../protocol/log';
import { openSession } from '../protocol/session';
import { keepHead, keptHead } from './heads';
import { api, putItem } from './http';
import type { LiveLink } from './live.svelte';

/** A larger sealed item is uploaded first. */
const MAX_INLINE = 64 * 1024;
/** Own events not yet committed; beyond it the page refuses to add more and says so. */
const MAX_PENDING = 256;
/** New media fragments are shown this often. */
const SHOW_MS = 150;

export interface Draft {
  kind: string;
  session?: string;
  payload?: unknown;
  attachments?: Sealed[];
  clear?: AuthorFields['clear'];
  /** When it happened, server UTC ms; now, unless said. */
  at_ms?: number;
}

export class CommitError extends Error {
  constructor(readonly error: ApiError) {
    super(error.message || error.code);
  }
}

interface Pending {
  fields: AuthorFields;
  author: string;
  sig: string;
  items: ItemRef[];
  done: (seq: number) => void;
  failed: (e: Error) => void;
}

export class OpenCase {
  view: CaseView;
  checked: Checked = $state({ events: 0, items: 0, headSeq: 0, fault: null });
  /** Our pseudonym here; null until the server has said. */
  me: string | null = $state(null);
  role: Role | null = $state(null);
  caughtUp = $state(false);
  /** The server would not open the case. */
  refused: ApiError | null = $state(null);
  segments: Segment[] = $state.raw([]);

  #log: CaseLog;
  #off: (() => void)[] = [];
  #identity: Promise<{ pair: SigningPair; device: string }> | null = null;
  #deviceSeq = 0;
  /** Settled when the event that binds this tab has its place before all others of ours. */
  #entering: Promise<void> | null = null;
  #pending = new Map<string, Pending>();
  #signing: Promise<unknown> = Promise.resolve();
  /** Checked, not yet in the view. */
  #newEntries: Entry[] = [];
  #newSegments: Segment[] = [];
  #showing = 0;
  #reading = false;
  #newestHead: SignedHead | null = null;
  #meKnown!: (me: string) => void;
  #whenMe = new Promise<string>((resolve) => (this.#meKnown = resolve));
  #wanted = true;
  /** The session as the server says, while the log is being read; then the log says it. */
  #now: Session | null | undefined = $state.raw(undefined);

  /** `lean`: without the payloads of media fragments, which a replay needs and a call does not. */
  constructor(
    readonly id: string,
    private readonly link: LiveLink,
    private readonly person: string,
    private readonly lean = false,
  ) {
    const view = $state(newCaseView(id));
    this.view = view;
    this.#log = new CaseLog(
      id,
      (c, d) => api.item(c, d),
      (e) => this.#entry(e),
      () => this.#entry(null),
    );
    const seen = keptHead(id);
    if (seen) void this.#log.head(seen);
    link.claim(id);
    this.#off.push(link.listen((m) => this.#received(m)));
    this.#off.push(link.whenOpen(() => this.#resume()));
    // The reason is asked for once more, for its words.
    this.#off.push(link.whenSpoken(() => this.refused && this.#resume()));
  }

  close(): void {
    this.#wanted = false;
    clearTimeout(this.#showing);
    this.link.release(this.id);
    for (const off of this.#off) off();
    for (const p of this.#pending.values()) p.failed(new Error('the case was closed'));
    this.#pending.clear();
  }

  /** The session that runs. */
  get session(): Session | null {
    if (!this.caughtUp && this.#now !== undefined) return this.#now;
    return openSession(this.view.sessions) ?? null;
  }

  /** It is known whether one runs. */
  get knowsSession(): boolean {
    return this.caughtUp || this.#now !== undefined;
  }

  /** That session, also after its end. */
  sessionOf(id: string): Session | null {
    const now = this.session;
    return now?.id === id ? now : (this.view.sessions.list.find((s) => s.id === id) ?? null);
  }

  /** Uncommitted own events. */
  get pending(): number {
    return this.#pending.size;
  }

  /** Everything received so far has been checked and folded. */
  settled(): Promise<void> {
    return this.#log.settled();
  }

  /**
   * Signs and sends an event; resolves with its seq once it is durable. Joins the case before if need be, without waiting for that.
   * `onOut` is called when the event has left the page.
   */
  async commit(draft: Draft, onOut?: () => void): Promise<{ id: string; seq: number }> {
    await this.#enter();
    return this.#send(draft, onOut);
  }

  /** Makes the keys that a first event needs, while there is time. */
  warm(): void {
    // Whoever needs them asks again, and hears why there are none.
    void Promise.all([this.#whoAmI(), deviceKey()]).catch(() => {});
  }

  /** Seals and uploads; the result goes into a draft's attachments. */
  async upload(plain: Bytes, onSent?: (part: number) => void): Promise<Sealed> {
    const sealed = await seal(plain);
    await putItem(this.id, sealed.digest, sealed.bytes, onSent);
    return sealed;
  }

  /** Asks for the log again from where we are: after becoming a member there is more to read. */
  refresh(): void {
    this.#resume();
  }

  /** Binds this tab to the case, once. */
  #enter(): Promise<void> {
    this.#entering ??= this.#sendJoined().catch((e: unknown) => {
      this.#entering = null;
      throw e;
    });
    return this.#entering;
  }

  async #sendJoined(): Promise<void> {
    const me = await this.#whenMe;
    const { pair } = await this.#whoAmI();
    const device = await deviceKey();
    const role = this.role ?? 'expert';
    const payload = {
      name: this.person,
      device: 'Browser',
      device_key: device.publicKey,
      device_sig: await sign(device.privateKey, bindingText(this.id, me, pair.publicKey)),
    };
    // Refused: the next event tries again.
    this.#send({ kind: KIND.joined, payload, clear: { role, case_key: pair.publicKey } }).catch(() => (this.#entering = null));
  }

  #whoAmI(): Promise<{ pair: SigningPair; device: string }> {
    this.#identity ??= newSigningPair().then((pair) => ({ pair, device: newId() }));
    return this.#identity;
  }

  #send(draft: Draft, onOut?: () => void): Promise<{ id: string; seq: number }> {
    if (this.#pending.size >= MAX_PENDING) {
      return Promise.reject(new Error('too much is waiting for the network'));
    }
    // Numbers must go out in the order they were given: one signature after the other.
    const sent = this.#signing.then(() => this.#signAndSend(draft));
    this.#signing = sent.catch(() => {});
    if (onOut) void sent.then(onOut, () => {});
    return sent.then(({ id, committed }) => committed.then((seq) => ({ id, seq })));
  }

  async #signAndSend(draft: Draft): Promise<{ id: string; committed: Promise<number> }> {
    const author = await this.#whenMe;
    const { device } = await this.#whoAmI();
    const items: ItemRef[] = [];
    const now = this.link.now_ms();
    const fields: AuthorFields = {
      v: 1,
      case: this.id,
      // A time-sorted id would tell a receipt's exact time.
      id: draft.kind === KIND.receipt ? newId() : newEventId(now),
      kind: draft.kind,
      author,
      device,
      device_seq: ++this.#deviceSeq,
      captured_at_ms: draft.kind === KIND.receipt ? coarse(now) : (draft.at_ms ?? now),
    };
    if (draft.session) fields.session = draft.session;
    if (draft.payload !== undefined) {
      const sealed = await seal(utf8(JSON.stringify(draft.payload)));
      fields.item = sealed.digest;
      if (sealed.bytes.length > MAX_INLINE) {
        await putItem(this.id, sealed.digest, sealed.bytes);
        items.push({ digest: sealed.digest, key: sealed.key });
      } else {
        items.push({ digest: sealed.digest, key: sealed.key, bytes: toBase64(sealed.bytes) });
      }
    }
    if (draft.attachments?.length) {
      fields.attachments = draft.attachments.map((a) => a.digest);
      for (const a of draft.attachments) items.push({ digest: a.digest, key: a.key });
    }
    if (draft.clear !== undefined) fields.clear = draft.clear;
    const { text, sig } = await this.#sign(fields);
    const committed = new Promise<number>((done, failed) => {
      this.#pending.set(fields.id, { fields, author: text, sig, items, done, failed });
    });
    // Whoever awaits the commit hears of it; nobody else must.
    committed.catch(() => {});
    this.#transmit(this.#pending.get(fields.id)!);
    return { id: fields.id, committed };
  }

  async #sign(fields: AuthorFields): Promise<{ text: string; sig: string }> {
    const { pair } = await this.#whoAmI();
    const text = writeAuthor(fields);
    return { text, sig: await sign(pair.privateKey, text) };
  }

  #transmit(p: Pending): void {
    this.link.send({ type: 'commit', case: this.id, author: p.author, sig: p.sig, items: p.items });
  }

  #resume(): void {
    if (!this.#wanted) return;
    this.link.send({ type: 'open_case', case: this.id, after_seq: this.#log.seq, lean: this.lean });
    // Unchanged and in their order; the server knows by the id what it has.
    for (const p of this.#pending.values()) this.#transmit(p);
  }

  #received(m: ServerMessage): void {
    if (!('case' in m) || m.case !== this.id) return;
    switch (m.type) {
      case 'case_opened':
        this.me = m.me;
        this.role = m.role;
        this.refused = null;
        this.#meKnown(m.me);
        this.#newestHead = m.head;
        void this.#log.head(m.head);
        return;
      case 'event':
        // Who may read from now on was told "caught up" with nothing before; the real one follows the log.
        if (this.#log.seq === 0 && !this.#reading) {
          this.#reading = true;
          this.caughtUp = false;
        }
        void this.#log.push(m.event);
        return;
      case 'session_now':
        this.#now = m.session ?? null;
        // After a short loss the log is nearly here; at the first reading it may take long.
        if (this.#log.seq === 0) {
          this.#reading = true;
          this.caughtUp = false;
        }
        return;
      case 'caught_up':
        void this.#log.caughtUp().then(() => {
          if (this.#newestHead && this.#log.seq > 0 && !this.#log.checked.fault) keepHead(this.id, this.#newestHead);
          this.#showAll();
          this.caughtUp = true;
        });
        return;
      case 'committed': {
        const p = this.#pending.get(m.id);
        this.#pending.delete(m.id);
        p?.done(m.seq);
        return;
      }
      case 'refused':
        this.#refused(m);
    }
  }

  #refused(m: Extract<ServerMessage, { type: 'refused' }>): void {
    const p = m.id ? this.#pending.get(m.id) : undefined;
    if (!p) {
      if (!m.id && !m.session) this.refused = m.error;
      return;
    }
    if (m.error.code === 'stale_device_seq' && m.last_device_seq !== undefined) {
      void this.#renumber(m.last_device_seq);
      return;
    }
    this.#pending.delete(p.fields.id);
    p.failed(new CommitError(m.error));
  }

  /** Everything pending is numbered anew above what the server has seen, in its order. */
  #renumber(last: number): Promise<void> {
    const step = this.#signing.then(async () => {
      if ([...this.#pending.values()].every((p) => p.fields.device_seq > last)) return;
      this.#deviceSeq = Math.max(this.#deviceSeq, last);
      for (const p of this.#pending.values()) {
        p.fields.device_seq = ++this.#deviceSeq;
        const { text, sig } = await this.#sign(p.fields);
        p.author = text;
        p.sig = sig;
        this.#transmit(p);
      }
    });
    this.#signing = step.catch(() => {});
    return step;
  }

  /**
   * One event more, or only its check. A long log comes in thousands: until it has been read it is shown in handfuls,
   * because each change lets the whole page look through what there is already.
   */
  #entry(e: Entry | null): void {
    if (e) this.#newEntries.push(e);
    if (this.caughtUp) this.#showEntries();
    if ((this.#newEntries.length > 0 || this.#newSegments.length > 0 || !this.caughtUp) && !this.#showing) {
      this.#showing = window.setTimeout(() => this.#showAll(), SHOW_MS);
    }
  }

  #showEntries(): void {
    for (const e of this.#newEntries) applyEntry(this.view, e, (s) => this.#newSegments.push(s));
    this.#newEntries = [];
    this.checked = { ...this.#log.checked };
  }

  #showAll(): void {
    clearTimeout(this.#showing);
    this.#showing = 0;
    this.#showEntries();
    if (this.#newSegments.length === 0) return;
    this.segments = [...this.segments, ...this.#newSegments];
    this.#newSegments = [];
  }
}
