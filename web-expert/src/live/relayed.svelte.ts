// Marked pictures of a call without recording: they come through the server's memory and live in this tab only.
//
// Owns: the object URLs. Never: keeps one beyond the page. Elsewhere: what a relayed item looks like (protocol/relay.ts).

import { app } from '../app.svelte';
import { fromBase64 } from '../protocol/bytes';
import { openChecked } from '../protocol/item';
import { readRelay } from '../protocol/relay';
import { sniff } from '../ui/pictures';

export class Relayed {
  /** Instruction → object URL. */
  pictures: Record<string, string> = $state({});
  #off: () => void;

  constructor(caseId: string) {
    this.#off = app.link.listen((m) => {
      if (m.type === 'relayed' && m.case === caseId) void this.#take(m.item);
    });
  }

  close(): void {
    this.#off();
    for (const url of Object.values(this.pictures)) URL.revokeObjectURL(url);
  }

  async #take(item: { digest: string; key?: string; bytes?: string }): Promise<void> {
    if (!item.key || !item.bytes) return;
    try {
      const read = readRelay(await openChecked(item.digest, item.key, fromBase64(item.bytes)));
      if (!read || this.pictures[read.head.instruction]) return;
      this.pictures[read.head.instruction] = URL.createObjectURL(new Blob([read.picture], { type: sniff(read.picture) }));
    } catch {
      // Not readable: the instruction stands without its picture.
    }
  }
}
