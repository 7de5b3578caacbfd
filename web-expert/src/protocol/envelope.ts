// Author bytes, server bytes and their hash, as server/protocol/src/envelope.rs.
//
// Owns: writing author bytes once, reading both halves, the hash rule, Ed25519. Never: writes received bytes again.

import type { AuthorFields, HeadFields, ServerFields, SignedHead, StoredEvent } from '@bindings/envelope';
import { concat, digestOf, fromBase64, toBase64, u32be, utf8 } from './bytes';

export const VERSION = 1;
export const MAX_AUTHOR_BYTES = 16 * 1024;
/** Clear times of receipts are cut to this. */
export const COARSE_MS = 60_000;

/** The bytes to sign and send; fields in the order of the contract, absent ones left out. */
export function writeAuthor(f: AuthorFields): string {
  const { v, case: id_case, id, kind, session, author, device, device_seq, captured_at_ms, item, attachments, clear } = f;
  return JSON.stringify({
    v,
    case: id_case,
    id,
    kind,
    session,
    author,
    device,
    device_seq,
    captured_at_ms,
    item,
    attachments: attachments?.length ? attachments : undefined,
    clear,
  });
}

export function readAuthor(text: string): AuthorFields {
  if (utf8(text).length > MAX_AUTHOR_BYTES) throw new Error('author bytes are too long');
  const f = JSON.parse(text) as AuthorFields;
  for (const key of ['case', 'id', 'kind', 'author', 'device'] as const) {
    if (typeof f[key] !== 'string') throw new Error(`author bytes lack ${key}`);
  }
  if (f.v !== VERSION) throw new Error(`version ${f.v} is newer than this page`);
  if (!Number.isSafeInteger(f.device_seq) || !Number.isSafeInteger(f.captured_at_ms)) throw new Error('a number is none');
  return f;
}

export function readServer(text: string): ServerFields {
  const f = JSON.parse(text) as ServerFields;
  if (f.v !== VERSION) throw new Error(`version ${f.v} is newer than this page`);
  if (!Number.isSafeInteger(f.seq) || typeof f.prev !== 'string') throw new Error('server bytes are incomplete');
  return f;
}

/** SHA-256 over server bytes, author bytes (each with its length) and signature. */
export function hashOf(event: StoredEvent): Promise<string> {
  const server = utf8(event.server);
  const author = utf8(event.author);
  return digestOf(concat(u32be(server.length), server, u32be(author.length), author, fromBase64(event.sig)));
}

/** `prev` of a case's first event. */
export function genesis(caseId: string): Promise<string> {
  return digestOf(utf8(`lotse-case-v1 ${caseId}`));
}

export function coarse(ms: number): number {
  return Math.floor(ms / COARSE_MS) * COARSE_MS;
}

export async function sign(key: CryptoKey, text: string): Promise<string> {
  return toBase64(new Uint8Array(await crypto.subtle.sign('Ed25519', key, utf8(text))));
}

export async function verify(publicKey: string, text: string, sig: string): Promise<boolean> {
  try {
    const key = await importedKey(publicKey);
    return await crypto.subtle.verify('Ed25519', key, fromBase64(sig), utf8(text));
  } catch {
    return false;
  }
}

/** Reads a signed head; null when the signature is not the server's. */
export async function readHead(signed: SignedHead, serverKey: string): Promise<HeadFields | null> {
  return (await verify(serverKey, signed.head, signed.sig)) ? (JSON.parse(signed.head) as HeadFields) : null;
}

/** The words a device key signs to vouch for a case key. */
export function bindingText(caseId: string, author: string, caseKey: string): string {
  return `lotse-case-key-v1 ${caseId} ${author} ${caseKey}`;
}

// A log has few keys and many signatures; at most one entry per device of the cases opened in this tab.
const imported = new Map<string, Promise<CryptoKey>>();

function importedKey(publicKey: string): Promise<CryptoKey> {
  let key = imported.get(publicKey);
  if (!key) {
    key = crypto.subtle.importKey('raw', fromBase64(publicKey), 'Ed25519', false, ['verify']);
    imported.set(publicKey, key);
  }
  return key;
}
