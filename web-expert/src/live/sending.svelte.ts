// Instructions on their way into the log, with their pictures: kept while recording is allowed, else relayed through memory.
//
// Owns: what was sent in this tab and how far it got. Never: draws, freezes.
// Elsewhere: pictures that come by relay (relayed.svelte.ts), who may record (protocol/session.ts), sealing and commits (link/case.svelte.ts).

import type { Instruction } from '@bindings/payload';
import { app } from '../app.svelte';
import { CommitError, type OpenCase } from '../link/case.svelte';
import { toBase64 } from '../protocol/bytes';
import { seal, type Sealed } from '../protocol/item';
import { KIND } from '../protocol/kind';
import { writeRelay } from '../protocol/relay';
import { mayRecord } from '../protocol/session';
import { fitting } from './frames';
import { Relayed } from './relayed.svelte';

/** A relayed picture travels in one live message of at most 256 KiB, as base64: sealed it may have this much. */
const MAX_RELAY_BYTES = 160 * 1024;

/** Drawing the page anew waits for the message to leave, at most this long. */
const SHOWN_AFTER_MS = 50;

/** An instruction that is not in the log yet, or whose picture only this tab has. */
export class Outgoing {
  readonly key = crypto.randomUUID();
  url = $state('');
  state: 'sending' | 'sent' | 'failed' = $state('sending');
  /** The event, once committed. */
  id: string | null = $state(null);
  why = $state('');

  constructor(
    readonly body: Instruction,
    readonly again: (out: Outgoing) => void,
  ) {}
}

export class Sending {
  outgoing: Outgoing[] = $state([]);
  readonly #relays: Relayed;
  /** The picture that stands still now, already on the server: sealed, and nobody but this page has its key. */
  #ahead: { picture: Blob; sealed: Promise<Sealed> } | null = null;

  constructor(private readonly open: OpenCase) {
    this.#relays = new Relayed(open.id);
  }

  /** Pictures that came by relay: instruction → object URL. */
  get relayed(): Record<string, string> {
    return this.#relays.pictures;
  }

  close(): void {
    this.#relays.close();
    for (const o of this.outgoing) URL.revokeObjectURL(o.url);
  }

  /** Uploads the frozen picture while marks are drawn, so that Enter only has to name it. What is never named is forgotten. */
  prepare(picture: Blob, session: string | undefined): void {
    const s = session ? this.open.sessionOf(session) : null;
    if (!s || !mayRecord(s)) return;
    const sealed = picture.arrayBuffer().then((bytes) => this.open.upload(new Uint8Array(bytes)));
    // Enter tries again, and tells.
    sealed.catch(() => {});
    this.#ahead = { picture, sealed };
  }

  /** `onOut` is called when the message has left, or is late: from then on the page may take time for itself. */
  async send(body: Instruction, session: string, picture: Promise<Blob | null>, onOut: () => void): Promise<void> {
    const out = new Outgoing(body, (o) => void this.#instruct(o, session, picture));
    let shown = false;
    const show = () => {
      if (!shown) this.outgoing.push(out);
      if (!shown) onOut();
      shown = true;
    };
    const late = setTimeout(show, SHOWN_AFTER_MS);
    await this.#instruct(out, session, picture, show);
    clearTimeout(late);
    show();
  }

  async #instruct(out: Outgoing, session: string, asked: Promise<Blob | null>, onOut?: () => void): Promise<void> {
    out.state = 'sending';
    out.why = '';
    try {
      const picture = await asked;
      if (picture && !out.url) out.url = URL.createObjectURL(picture);
      const s = session ? this.open.sessionOf(session) : null;
      const kept = s && mayRecord(s) && picture ? await this.#instructKept(out, session, picture, onOut) : null;
      out.id = kept ?? (await this.#instructRelayed(out, session, picture, onOut));
      out.state = 'sent';
    } catch (e) {
      out.state = 'failed';
      out.why = e instanceof Error ? e.message : '';
    }
  }

  /** With the picture as an attachment; null when recording was withdrawn meanwhile. */
  async #instructKept(out: Outgoing, session: string, picture: Blob, onOut?: () => void): Promise<string | null> {
    const ahead = this.#ahead?.picture === picture ? await this.#ahead.sealed.catch(() => null) : null;
    this.#ahead = null;
    const sealed = ahead ?? (await this.open.upload(new Uint8Array(await picture.arrayBuffer())));
    try {
      const { id } = await this.open.commit({ kind: KIND.instruction, session, payload: out.body, attachments: [sealed] }, onOut);
      return id;
    } catch (e) {
      const code = e instanceof CommitError ? e.error.code : '';
      if (code === 'not_recording') return null;
      // Forgotten meanwhile: once more, from the beginning.
      if (code === 'missing_item' && ahead) return this.#instructKept(out, session, picture, onOut);
      throw e;
    }
  }

  /** Without recording the log keeps the marks; the picture passes through memory to those present. */
  async #instructRelayed(out: Outgoing, session: string, picture: Blob | null, onOut?: () => void): Promise<string> {
    const { id } = await this.open.commit({ kind: KIND.instruction, session, payload: out.body }, onOut);
    // What is committed stands, with its picture or without.
    const small = picture && (await fitting(picture, MAX_RELAY_BYTES).catch(() => null));
    if (small) {
      const plain = writeRelay({ instruction: id, mime: small.type }, new Uint8Array(await small.arrayBuffer()));
      const sealed = await seal(plain);
      const item = { digest: sealed.digest, key: sealed.key, bytes: toBase64(sealed.bytes) };
      app.link.send({ type: 'relay', case: this.open.id, session, item });
    }
    return id;
  }
}
