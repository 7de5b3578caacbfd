// The golden fixtures of the protocol: this page must read what the Rust side wrote, byte for byte.

import type { AuthorFields, HeadFields, StoredEvent, SignedHead } from '@bindings/envelope';
import type { ItemRef } from '@bindings/command';
import type { Role } from '@bindings/policy';
import type { Session } from '@bindings/session';
import { describe, expect, it } from 'vitest';
import { toPicture, toPixels, lengthToPixels } from '../board/coords';
import caseFile from '../../../server/protocol/fixtures/case.json';
import envelopeFile from '../../../server/protocol/fixtures/envelope.json';
import geometryFile from '../../../server/protocol/fixtures/geometry.json';
import itemsFile from '../../../server/protocol/fixtures/items.json';
import { digestOf, fromBase64, toBase64 } from './bytes';
import { Chain } from './chain';
import { genesis, hashOf, readAuthor, readHead, verify, writeAuthor } from './envelope';
import { applyEntry, newCaseView } from './fold';
import { ItemError, open, seal } from './item';
import { CaseLog } from './log';
import { applySession, isWaiting, mayCall, mayRecord, newSessions, openSession } from './session';

interface GoldenSession {
  session: Session;
  is_waiting: boolean;
  may_record: boolean;
  may_call: Record<string, boolean>;
}
interface GoldenEvent {
  after: { open: string | null; roles: Record<string, Role>; sessions: GoldenSession[] };
  event: StoredEvent;
  hash: string;
  items: { digest: string; key?: string; bytes?: string }[];
}
const golden = caseFile as unknown as { case: string; events: GoldenEvent[]; signed_head: SignedHead; head: HeadFields; server_key: string };

const plainOf = (n: number) => new Uint8Array(n).map((_, i) => (i * 31 + 7) % 251);

describe('items.json', () => {
  it.each(itemsFile.good)('$name', async (v) => {
    const sealed = await seal(plainOf(v.plain_length), v.key);
    const inWholeChunks = v.chunks.slice(0, -1).every((n) => n === 65536);
    expect(await digestOf(plainOf(v.plain_length))).toBe(v.plain_sha256);
    // The page always seals in whole chunks; a fragment of shorter ones is only ever read.
    if (inWholeChunks) {
      expect(sealed.digest).toBe(v.digest);
      expect(sealed.bytes.length).toBe(v.sealed_length);
    }
    if ('sealed' in v && v.sealed) {
      const opened = await open(v.key, fromBase64(v.sealed));
      expect(await digestOf(opened.plain)).toBe(v.plain_sha256);
      expect(opened.chunks).toEqual(v.chunks);
      expect(await digestOf(fromBase64(v.sealed))).toBe(v.digest);
    }
  });

  it.each(itemsFile.bad)('refuses $name', async (v) => {
    const failed = await open(v.key, fromBase64(v.sealed)).catch((e: unknown) => e);
    expect(failed).toBeInstanceOf(ItemError);
    const problem = (failed as ItemError).problem;
    expect(problem.why).toBe(v.error);
    if ('chunk' in problem && v.chunk !== undefined && v.chunk !== null) expect(problem.chunk).toBe(v.chunk);
  });
});

describe('envelope.json', () => {
  it('starts the chain alike', async () => {
    expect(await genesis(envelopeFile.case)).toBe(envelopeFile.genesis);
  });

  it.each(envelopeFile.events)('event', async (e) => {
    expect(readAuthor(e.stored.author)).toEqual(e.fields);
    expect(await hashOf(e.stored)).toBe(e.hash);
    expect(await verify(envelopeFile.public_key, e.stored.author, e.stored.sig)).toBe(true);
    expect(await verify(envelopeFile.server_key, e.stored.author, e.stored.sig)).toBe(false);
    // Same fields in the same order: what this page writes, the fixture's author could have written.
    expect(writeAuthor(e.fields as AuthorFields)).toBe(e.stored.author);
  });

  it('checks heads and foreign signatures', async () => {
    expect(await readHead(envelopeFile.head, envelopeFile.server_key)).not.toBeNull();
    expect(await verify(envelopeFile.public_key, envelopeFile.foreign.text, envelopeFile.foreign.sig)).toBe(true);
  });
});

describe('geometry.json', () => {
  it('turns pixels into coordinates and back alike', () => {
    for (const v of geometryFile.from_pixels) {
      const shown = { left: 0, top: 0, width: v.width, height: v.height };
      expect(toPicture(v.px, v.py, shown)).toEqual(v.coord);
    }
    for (const v of geometryFile.to_pixels) {
      const p = toPixels(v.coord, v);
      expect(p.x).toBeCloseTo(v.px, 2);
      expect(p.y).toBeCloseTo(v.py, 2);
    }
    for (const v of geometryFile.lengths) expect(lengthToPixels(v.length, v.height)).toBeCloseTo(v.pixels, 2);
  });
});

describe('case.json', () => {
  it('verifies the whole chain', async () => {
    const chain = new Chain(golden.case);
    for (const e of golden.events) {
      await chain.push(e.event);
      expect(chain.head.hash).toBe(e.hash);
    }
    expect(chain.serverKey).toBe(golden.server_key);
    const head = await readHead(golden.signed_head, golden.server_key);
    expect(head).toMatchObject({ seq: golden.events.length, hash: chain.head.hash });
  });

  it('finds a single changed byte in any event', async () => {
    for (let n = 0; n < golden.events.length; n++) {
      const chain = new Chain(golden.case);
      let fault = 0;
      try {
        for (const [i, e] of golden.events.entries()) {
          const event = i === n ? { ...e.event, author: e.event.author.replace(/"captured_at_ms":(\d)/, (_m, d: string) => `"captured_at_ms":${(Number(d) + 1) % 10}`) } : e.event;
          await chain.push(event);
        }
      } catch (e) {
        fault = (e as { seq: number }).seq;
      }
      expect(fault).toBe(n + 1);
    }
  });

  it('folds sessions alike after every event', () => {
    const sessions = newSessions();
    for (const [i, e] of golden.events.entries()) {
      applySession(sessions, readAuthor(e.event.author));
      expect(sessions.roles, `roles after ${i + 1}`).toEqual(e.after.roles);
      expect(openSession(sessions)?.id ?? null, `open after ${i + 1}`).toBe(e.after.open);
      expect(sessions.list.length).toBe(e.after.sessions.length);
      for (const [k, want] of e.after.sessions.entries()) {
        const have = sessions.list[k]!;
        expect(have, `session ${k} after ${i + 1}`).toEqual(want.session);
        expect(isWaiting(have), `waiting after ${i + 1}`).toBe(want.is_waiting);
        expect(mayRecord(have), `may record after ${i + 1}`).toBe(want.may_record);
        const calls = Object.fromEntries(Object.keys(have.participants).map((who) => [who, mayCall(have, who)]));
        expect(calls, `may call after ${i + 1}`).toEqual(want.may_call);
      }
    }
  });

  it('opens every payload and folds it into one view', async () => {
    const view = newCaseView(golden.case);
    let segments = 0;
    const missing: string[] = [];
    const log = new CaseLog(
      golden.case,
      (_c, digest) => {
        missing.push(digest);
        return Promise.reject(new Error('not in the fixture'));
      },
      (e) => applyEntry(view, e, () => segments++),
    );
    await log.head(golden.signed_head);
    for (const e of golden.events) {
      const items: ItemRef[] = e.items.map((i) => ({ ...i }));
      await log.push({ event: e.event, items });
    }
    await log.caughtUp();
    expect(missing).toEqual([]);
    expect(log.checked).toMatchObject({ events: golden.events.length, headSeq: golden.events.length, fault: null });
    expect(log.checked.items).toBeGreaterThan(0);
    expect(view.number).not.toBe('');
    expect(view.instructions.length).toBeGreaterThan(0);
    expect(view.chat.length).toBeGreaterThan(0);
    expect(view.looks.length).toBeGreaterThan(0);
    expect(segments).toBeGreaterThan(0);
  });
});

describe('base64', () => {
  it('is the padded standard form', () => {
    expect(toBase64(fromBase64(golden.server_key))).toBe(golden.server_key);
  });
});
