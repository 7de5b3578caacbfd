// Sealing and opening of items, as server/protocol/src/item.rs: a commitment to the key (32 bytes), then rows of
// `u32 BE length | AES-256-GCM`, nonce = chunk index.
//
// Owns: the bytes of items. Never: uses a key for two items.

import { concat, digestOf, fromBase64, toBase64, toHex, u32be, utf8, type Bytes } from './bytes';

/** Plain bytes per chunk, and the largest chunk. */
export const CHUNK = 64 * 1024;
/** Bytes before the first chunk. */
const HEADER = 32;
const TAG = 16;

export interface Sealed {
  key: string;
  bytes: Bytes;
  digest: string;
}

export type ItemProblem =
  | { why: 'truncated'; chunk: number }
  | { why: 'does_not_open'; chunk: number }
  | { why: 'wrong_key' }
  | { why: 'digest'; found: string };

export class ItemError extends Error {
  constructor(readonly problem: ItemProblem) {
    super(`item: ${problem.why}${'chunk' in problem ? ` in chunk ${problem.chunk}` : ''}`);
  }
}

/** Seals an item under a fresh key, or the given one (fixtures). */
export async function seal(plain: Uint8Array, keyText?: string): Promise<Sealed> {
  const raw = keyText ? fromBase64(keyText) : crypto.getRandomValues(new Uint8Array(32));
  const key = await crypto.subtle.importKey('raw', raw, 'AES-GCM', false, ['encrypt']);
  const rows: Uint8Array[] = [await commitment(raw)];
  for (let i = 0, at = 0; at < plain.length || i === 0; i++, at += CHUNK) {
    const part = plain.slice(at, at + CHUNK);
    const sealed = new Uint8Array(await crypto.subtle.encrypt({ name: 'AES-GCM', iv: nonce(i) }, key, part));
    rows.push(u32be(sealed.length), sealed);
  }
  const bytes = concat(...rows);
  return { key: toBase64(raw), bytes, digest: await digestOf(bytes) };
}

/** Opens a whole item. Throws `ItemError`. */
export async function open(keyText: string, sealed: Uint8Array): Promise<{ plain: Bytes; chunks: number[] }> {
  const raw = fromBase64(keyText);
  if (sealed.length <= HEADER) throw new ItemError({ why: 'truncated', chunk: 0 });
  if (toHex(sealed.subarray(0, HEADER)) !== toHex(await commitment(raw))) throw new ItemError({ why: 'wrong_key' });
  const key = await crypto.subtle.importKey('raw', raw, 'AES-GCM', false, ['decrypt']);
  const parts: Uint8Array[] = [];
  const view = new DataView(sealed.buffer, sealed.byteOffset, sealed.byteLength);
  for (let at = HEADER, i = 0; at < sealed.length; i++) {
    const length = at + 4 <= sealed.length ? view.getUint32(at) : 0;
    if (length < TAG || length > CHUNK + TAG || at + 4 + length > sealed.length) {
      throw new ItemError({ why: 'truncated', chunk: i });
    }
    const cipher = sealed.slice(at + 4, at + 4 + length);
    try {
      parts.push(new Uint8Array(await crypto.subtle.decrypt({ name: 'AES-GCM', iv: nonce(i) }, key, cipher)));
    } catch {
      throw new ItemError({ why: 'does_not_open', chunk: i });
    }
    at += 4 + length;
  }
  return { plain: concat(...parts), chunks: parts.map((p) => p.length) };
}

/** Checks the digest first, then opens. */
export async function openChecked(digest: string, key: string, sealed: Bytes): Promise<Bytes> {
  const found = await digestOf(sealed);
  if (found !== digest) throw new ItemError({ why: 'digest', found });
  return (await open(key, sealed)).plain;
}

/** SHA-256 of "lotse-item-v1 " and the key: without it one ciphertext could open to two things under two keys. */
async function commitment(raw: Uint8Array): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', concat(utf8('lotse-item-v1 '), raw)));
}

function nonce(index: number): Bytes {
  const n = new Uint8Array(12);
  new DataView(n.buffer).setUint32(8, index);
  return n;
}
