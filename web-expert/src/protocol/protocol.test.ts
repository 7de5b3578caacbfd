// Round trips of items, envelopes and chains, and what must be found when a byte is changed.

import type { AuthorFields, StoredEvent } from '@bindings/envelope';
import { beforeAll, describe, expect, it } from 'vitest';
import { digestOf, fromBase64, toBase64, toHex, utf8 } from './bytes';
import { Chain } from './chain';
import { bindingText, coarse, genesis, hashOf, readHead, sign, writeAuthor } from './envelope';
import { newEventId } from './id';
import { CHUNK, ItemError, open, openChecked, seal } from './item';
import { newSigningPair, type SigningPair } from './keys';
import { CaseLog, type Entry } from './log';

const CASE = '0192f0c1-0000-7000-8000-000000000001';
const SERVER = '0192f0c1-0000-7000-8000-0000000000aa';
const ANN = '0192f0c1-0000-7000-8000-0000000000bb';

describe('items', () => {
  it.each([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])('seal and open %i bytes', async (n) => {
    const plain = new Uint8Array(n).map((_, i) => i % 251);
    const sealed = await seal(plain);
    const { plain: back, chunks } = await open(sealed.key, sealed.bytes);
    // By digest: comparing 200,000 numbers one by one takes seconds.
    expect(await digestOf(back)).toBe(await digestOf(plain));
    expect(chunks.reduce((a, b) => a + b, 0)).toBe(n);
    expect(await openChecked(sealed.digest, sealed.key, sealed.bytes)).toHaveLength(n);
  });

  it('commits to its key', async () => {
    const one = await seal(utf8('one'));
    const two = await seal(utf8('two'));
    await expect(open(two.key, one.bytes)).rejects.toMatchObject({ problem: { why: 'wrong_key' } });
    await expect(open(one.key, one.bytes.slice(0, 32))).rejects.toMatchObject({ problem: { why: 'truncated' } });
  });

  it('finds a flipped bit, a cut and a foreign digest', async () => {
    const sealed = await seal(utf8('seal 42'));
    const flipped = sealed.bytes.slice();
    flipped[40]! ^= 1;
    await expect(open(sealed.key, flipped)).rejects.toMatchObject({ problem: { why: 'does_not_open', chunk: 0 } });
    await expect(open(sealed.key, sealed.bytes.slice(0, -1))).rejects.toMatchObject({ problem: { why: 'truncated' } });
    await expect(openChecked(sealed.digest, sealed.key, flipped)).rejects.toBeInstanceOf(ItemError);
  });
});

describe('bytes', () => {
  it('turns base64 round', () => {
    const raw = crypto.getRandomValues(new Uint8Array(20_001));
    expect(toHex(fromBase64(toBase64(raw)))).toBe(toHex(raw));
  });

  it('makes ids that sort by time', () => {
    const early = newEventId(1_700_000_000_000);
    const late = newEventId(1_700_000_000_001);
    expect(early < late).toBe(true);
    expect(early).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  it('cuts receipts to whole minutes towards the past', () => {
    expect([coarse(119_999), coarse(120_000), coarse(-1)]).toEqual([60_000, 120_000, -60_000]);
  });
});

describe('chain', () => {
  let server: SigningPair;
  let ann: SigningPair;
  let log: StoredEvent[];

  async function make(pair: SigningPair, over: Partial<AuthorFields>, prev: StoredEvent | null): Promise<StoredEvent> {
    const author = writeAuthor({
      v: 1,
      case: CASE,
      id: newEventId(Date.now()),
      kind: 'message',
      author: ANN,
      device: ANN,
      device_seq: 1,
      captured_at_ms: 5,
      ...over,
    });
    const seq = prev ? (JSON.parse(prev.server) as { seq: number }).seq + 1 : 1;
    const before = prev ? await hashOf(prev) : await genesis(CASE);
    return {
      server: JSON.stringify({ v: 1, case: CASE, seq, prev: before, received_at_ms: 6 }),
      author,
      sig: await sign(pair.privateKey, author),
    };
  }

  beforeAll(async () => {
    server = await newSigningPair();
    ann = await newSigningPair();
    const opened = await make(
      server,
      { kind: 'opened', author: SERVER, device: SERVER, clear: { number: '2026-0001', language: 'de', server_key: server.publicKey } },
      null,
    );
    const joined = await make(ann, { kind: 'joined', clear: { role: 'expert', case_key: ann.publicKey } }, opened);
    const said = await make(ann, { device_seq: 2 }, joined);
    log = [opened, joined, said];
  });

  async function faultOf(events: StoredEvent[]): Promise<string | null> {
    const chain = new Chain(CASE);
    try {
      for (const e of events) await chain.push(e);
    } catch (e) {
      return (e as { why: string }).why;
    }
    return null;
  }

  it('holds for an honest log', async () => {
    expect(await faultOf(log)).toBeNull();
  });

  it('finds a changed author byte, a changed server byte, a missing event and a replayed number', async () => {
    const [opened, joined, said] = log as [StoredEvent, StoredEvent, StoredEvent];
    const changed = { ...said, author: said.author.replace('"captured_at_ms":5', '"captured_at_ms":7') };
    expect(await faultOf([opened, joined, changed])).toBe('bad_signature');
    const moved = { ...joined, server: joined.server.replace('"received_at_ms":6', '"received_at_ms":9') };
    expect(await faultOf([opened, moved, said])).toBe('prev');
    expect(await faultOf([opened, said])).toBe('seq');
    expect(await faultOf([opened, joined, said, await make(ann, { device_seq: 2 }, said)])).toBe('replayed');
    expect(await faultOf([opened, await make(ann, {}, opened)])).toBe('unknown_author');
    const again = { kind: 'opened', device_seq: 3, clear: { server_key: ann.publicKey } };
    expect(await faultOf([opened, joined, said, await make(ann, again, said)])).toBe('opening');
    const left = { kind: 'session.left', device_seq: 3, clear: { who: ANN, why: 'left' } };
    expect(await faultOf([opened, joined, said, await make(ann, left, said)])).toBe('server_only');
    expect(await faultOf([opened, joined, said, await make(ann, { kind: 'receipt', device_seq: 3 }, said)])).toBe('coarse_time');
    const other = await newSigningPair();
    const role = { kind: 'joined', device: SERVER.replace('aa', 'cc'), device_seq: 1, clear: { role: 'manager', case_key: other.publicKey } };
    expect(await faultOf([opened, joined, said, await make(other, role, said)])).toBe('other_role');
    expect(await faultOf([opened, joined, await make(other, { device_seq: 3 }, joined)])).toBe('bad_signature');
  });

  it('finds a log that ends before a signed head', async () => {
    const text = JSON.stringify({ v: 1, case: CASE, seq: 3, hash: await hashOf(log[2]!), at_ms: 1 });
    const head = { head: text, sig: await sign(server.privateKey, text) };
    expect(await readHead(head, server.publicKey)).toMatchObject({ seq: 3 });
    expect(await readHead(head, ann.publicKey)).toBeNull();

    const whole = caseLog();
    await whole.log.head(head);
    for (const event of log) await whole.log.push({ event, items: [] });
    await whole.log.caughtUp();
    expect(whole.log.checked).toMatchObject({ events: 3, headSeq: 3, fault: null });

    const cut = caseLog();
    await cut.log.head(head);
    for (const event of log.slice(0, 2)) await cut.log.push({ event, items: [] });
    await cut.log.caughtUp();
    expect(cut.log.checked.fault).toEqual({ seq: 3, why: 'cut' });
  });

  it('opens payloads, passes over repeats and names an item that was changed', async () => {
    const sealed = await seal(utf8(JSON.stringify({ text: 'loosen this first' })));
    const event = await make(ann, { device_seq: 3, item: sealed.digest }, log[2]!);
    const ref = { digest: sealed.digest, key: sealed.key, bytes: toBase64(sealed.bytes) };
    const good = caseLog();
    for (const e of [...log, log[2]!, log[2]!]) await good.log.push({ event: e, items: [] });
    await good.log.push({ event, items: [ref] });
    expect(good.entries.map((e) => e.server.seq)).toEqual([1, 2, 3, 4]);
    expect(good.entries[3]!.payload).toEqual({ text: 'loosen this first' });

    const bad = caseLog();
    for (const e of log) await bad.log.push({ event: e, items: [] });
    const bytes = sealed.bytes.slice();
    bytes[9]! ^= 4;
    await bad.log.push({ event, items: [{ ...ref, bytes: toBase64(bytes) }] });
    expect(bad.log.checked.fault).toEqual({ seq: 4, why: 'item' });
  });

  it('finds a participant whose device does not vouch for its key', async () => {
    const ben = await newSigningPair();
    const device = await newSigningPair();
    const who = ANN.replace('bb', 'dd');
    const vouch = await sign(device.privateKey, bindingText(CASE, who, ben.publicKey));
    for (const [sig, fault] of [
      [vouch, null],
      [vouch.replace(/^./, (c) => (c === 'A' ? 'B' : 'A')), { seq: 4, why: 'not_vouched' }],
    ] as const) {
      const sealed = await seal(utf8(JSON.stringify({ name: 'Ben', device: 'Browser', device_key: device.publicKey, device_sig: sig })));
      const over = { kind: 'joined', author: who, device: who, item: sealed.digest, clear: { role: 'expert', case_key: ben.publicKey } };
      const event = await make(ben, over, log[2]!);
      const it_ = caseLog();
      for (const e of log) await it_.log.push({ event: e, items: [] });
      await it_.log.push({ event, items: [{ digest: sealed.digest, key: sealed.key, bytes: toBase64(sealed.bytes) }] });
      expect(it_.log.checked.fault).toEqual(fault);
    }
  });

  function caseLog(): { log: CaseLog; entries: Entry[] } {
    const entries: Entry[] = [];
    const fetchItem = () => Promise.reject(new Error('no network in this test'));
    return { log: new CaseLog(CASE, fetchItem, (e) => entries.push(e)), entries };
  }
});
