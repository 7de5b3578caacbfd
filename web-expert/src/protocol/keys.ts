// The keys of this browser: the device's long-term key and, per tab and case, a case key.
//
// Owns: the one IndexedDB record; both private keys are non-extractable. Never: lets a private key leave WebCrypto.

import { toBase64 } from './bytes';

const DB = 'lotse';
const STORE = 'keys';
const DEVICE = 'device';

export interface SigningPair {
  privateKey: CryptoKey;
  /** base64 */
  publicKey: string;
}

/** This browser's long-term key, made on first use. */
export async function deviceKey(): Promise<SigningPair> {
  const db = await openDb();
  try {
    const kept = await request<SigningPair | undefined>(db, 'readonly', (s) => s.get(DEVICE));
    if (kept) return kept;
    const made = await newSigningPair();
    // Another tab may have been quicker: the first one kept counts.
    return await request<SigningPair>(db, 'readwrite', (s) => s.add(made, DEVICE)).then(
      () => made,
      async () => (await request<SigningPair | undefined>(db, 'readonly', (s) => s.get(DEVICE))) ?? made,
    );
  } finally {
    db.close();
  }
}

/** A fresh Ed25519 pair whose private half cannot be read out. */
export async function newSigningPair(): Promise<SigningPair> {
  const pair = (await crypto.subtle.generateKey('Ed25519', false, ['sign', 'verify'])) as CryptoKeyPair;
  const raw = await crypto.subtle.exportKey('raw', pair.publicKey);
  return { privateKey: pair.privateKey, publicKey: toBase64(new Uint8Array(raw)) };
}

function openDb(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const open = indexedDB.open(DB, 1);
    open.onupgradeneeded = () => open.result.createObjectStore(STORE);
    open.onsuccess = () => resolve(open.result);
    open.onerror = () => reject(open.error ?? new Error('this browser keeps no data for the page'));
  });
}

function request<T>(db: IDBDatabase, mode: IDBTransactionMode, ask: (s: IDBObjectStore) => IDBRequest): Promise<T> {
  return new Promise((resolve, reject) => {
    const r = ask(db.transaction(STORE, mode).objectStore(STORE));
    r.onsuccess = () => resolve(r.result as T);
    r.onerror = () => reject(r.error ?? new Error('the browser refused its key store'));
  });
}
