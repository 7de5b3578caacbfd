// Attached items as object URLs: fetched, held against their digest, opened once.
//
// Owns: the URLs of this tab (freed when the oldest is pushed out). Never: gives a document type to foreign bytes.

import { api } from '../link/http';
import type { Bytes } from '../protocol/bytes';
import type { Attached } from '../protocol/fold';
import { openChecked } from '../protocol/item';

/** Pictures kept open. */
const KEPT = 200;
/** Types a page may show. SVG and HTML could carry scripts and are only ever downloaded. */
const SHOWN = ['image/png', 'image/jpeg', 'image/webp', 'image/gif'];

const urls = new Map<string, Promise<string>>();

/** An object URL of a picture; rejects when it cannot be had or is not what its digest says. */
export function pictureUrl(caseId: string, attached: Attached): Promise<string> {
  const known = urls.get(attached.digest);
  if (known) return known;
  const made = openItem(caseId, attached).then((plain) => URL.createObjectURL(new Blob([plain], { type: sniff(plain) })));
  urls.set(attached.digest, made);
  made.catch(() => urls.delete(attached.digest));
  if (urls.size > KEPT) {
    const [oldest, url] = urls.entries().next().value!;
    urls.delete(oldest);
    void url.then(URL.revokeObjectURL, () => {});
  }
  return made;
}

/** The plain bytes of an attached item. */
export async function openItem(caseId: string, attached: Attached): Promise<Bytes> {
  if (!attached.key) throw new Error('no key');
  return openChecked(attached.digest, attached.key, await api.item(caseId, attached.digest));
}

/** May this be shown inside the page? */
export function isPicture(mime: string): boolean {
  return SHOWN.includes(mime);
}

/** Hands a file to the browser's downloads. */
export async function download(caseId: string, attached: Attached, name: string): Promise<void> {
  const plain = await openItem(caseId, attached);
  const url = URL.createObjectURL(new Blob([plain], { type: 'application/octet-stream' }));
  const a = document.createElement('a');
  a.href = url;
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** The picture type by its first bytes. */
export function sniff(b: Uint8Array): string {
  const text = String.fromCharCode(...b.subarray(0, 12));
  if (text.startsWith('\x89PNG')) return 'image/png';
  if (b[0] === 0xff && b[1] === 0xd8) return 'image/jpeg';
  if (text.startsWith('RIFF') && text.slice(8, 12) === 'WEBP') return 'image/webp';
  if (text.startsWith('GIF8')) return 'image/gif';
  return 'application/octet-stream';
}
