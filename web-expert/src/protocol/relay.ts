// A picture of a call without recording: `u32 BE n | n bytes JSON | picture`, sealed, passed on in memory only.

import { concat, fromUtf8, u32be, utf8, type Bytes } from './bytes';

export interface RelayedHead {
  instruction: string;
  mime: string;
}

export function writeRelay(head: RelayedHead, picture: Uint8Array): Bytes {
  const json = utf8(JSON.stringify(head));
  return concat(u32be(json.length), json, picture);
}

/** null when the bytes are no relayed picture. */
export function readRelay(plain: Bytes): { head: RelayedHead; picture: Bytes } | null {
  if (plain.length < 4) return null;
  const n = new DataView(plain.buffer, plain.byteOffset).getUint32(0);
  if (4 + n > plain.length) return null;
  try {
    const head = JSON.parse(fromUtf8(plain.subarray(4, 4 + n))) as RelayedHead;
    if (typeof head.instruction !== 'string' || typeof head.mime !== 'string') return null;
    return { head, picture: plain.slice(4 + n) };
  } catch {
    return null;
  }
}
