// One case's log as it arrives: every event is checked against the chain, its payload opened, and handed on in order.
//
// Owns: the order of arrival, the count of what was checked, the first fault found.
// Never: shows anything. Elsewhere: what the events mean (fold.ts), where they come from (link/live.ts, replay).

import type { SentEvent, ItemRef } from '@bindings/command';
import type { AuthorFields, HeadFields, Joined, ServerFields, SignedHead } from '@bindings/envelope';
import type { JoinedPayload } from '@bindings/payload';
import { fromBase64, fromUtf8, type Bytes } from './bytes';
import { Chain, ChainError, clearOf, type ChainWhy } from './chain';
import { bindingText, readHead, verify } from './envelope';
import { openChecked } from './item';
import { KIND } from './kind';

/** One event with what could be opened of it. */
export interface Entry {
  server: ServerFields;
  author: AuthorFields;
  /** Digest → what opens it. */
  items: Map<string, ItemRef>;
  /** The payload, when there is one and it could be opened. */
  payload: unknown;
}

export type FaultWhy = ChainWhy | 'head' | 'cut' | 'item' | 'not_vouched';

/** The first thing that was wrong with the log. Nothing after it counts as checked. */
export interface Fault {
  seq: number;
  why: FaultWhy;
}

export interface Checked {
  /** Events whose signature, number and hash were checked. */
  events: number;
  /** Payloads opened and digested. */
  items: number;
  /** The newest head signed by the server that was checked. */
  headSeq: number;
  fault: Fault | null;
}

/** Fetches the sealed bytes of an item that did not travel inside its event. */
export type FetchItem = (caseId: string, digest: string) => Promise<Bytes>;

export class CaseLog {
  readonly checked: Checked = { events: 0, items: 0, headSeq: 0, fault: null };
  #chain: Chain;
  #tail: Promise<void> = Promise.resolve();
  #heads: SignedHead[] = [];
  #hashes = new Map<number, string>();

  constructor(
    readonly caseId: string,
    private readonly fetchItem: FetchItem,
    private readonly onEntry: (entry: Entry) => void,
    private readonly onChecked: () => void = () => {},
  ) {
    this.#chain = new Chain(caseId);
  }

  /** Events up to this number have been taken. */
  get seq(): number {
    return this.#chain.head.seq;
  }

  /** Takes the next event; events already taken are passed over (a reconnect may repeat them). */
  push(sent: SentEvent): Promise<void> {
    return this.#queue(() => this.#take(sent));
  }

  /** Keeps a signed head and holds the log against it. */
  head(signed: SignedHead): Promise<void> {
    return this.#queue(async () => {
      this.#heads.push(signed);
      await this.#checkHeads();
    });
  }

  /** Everything sent so far has been taken: a head beyond the last event proves that the log was cut. */
  caughtUp(): Promise<void> {
    return this.#queue(async () => {
      await this.#checkHeads();
      const beyond = this.#heads.map((h) => (JSON.parse(h.head) as HeadFields).seq).find((seq) => seq > this.seq);
      if (beyond !== undefined && this.#chain.serverKey) this.#fault(beyond, 'cut');
    });
  }

  /** Resolves once everything pushed so far has been taken. */
  settled(): Promise<void> {
    return this.#tail;
  }

  #queue(step: () => Promise<void>): Promise<void> {
    // One event after the other; a fault is kept, never thrown into the next step.
    this.#tail = this.#tail.then(step).catch(() => {});
    return this.#tail;
  }

  async #take(sent: SentEvent): Promise<void> {
    const number = numberOf(sent);
    if (number !== null && number <= this.seq) return;
    try {
      const { server, author } = await this.#chain.push(sent.event);
      this.checked.events++;
      this.#hashes.set(server.seq, this.#chain.head.hash);
      const items = new Map(sent.items.map((i) => [i.digest, i]));
      const payload = author.item ? await this.#payload(server.seq, author.item, items) : undefined;
      if (author.kind === KIND.joined && payload && !(await isVouched(author, payload as JoinedPayload))) {
        this.#fault(server.seq, 'not_vouched');
      }
      this.onEntry({ server, author, items, payload });
      if (this.#heads.length > 0) await this.#checkHeads();
    } catch (e) {
      if (e instanceof ChainError) this.#fault(e.seq, e.why);
      else throw e;
    }
    this.onChecked();
  }

  async #payload(seq: number, digest: string, items: Map<string, ItemRef>): Promise<unknown> {
    const ref = items.get(digest);
    // No key: not ours to open, or its wrap was destroyed. The chain holds all the same.
    if (!ref?.key) return undefined;
    let sealed: Bytes;
    try {
      sealed = ref.bytes ? fromBase64(ref.bytes) : await this.fetchItem(this.caseId, digest);
    } catch {
      return undefined;
    }
    try {
      const plain = await openChecked(digest, ref.key, sealed);
      this.checked.items++;
      return JSON.parse(fromUtf8(plain));
    } catch {
      this.#fault(seq, 'item');
      return undefined;
    }
  }

  async #checkHeads(): Promise<void> {
    const key = this.#chain.serverKey;
    if (!key) return;
    const later: SignedHead[] = [];
    for (const signed of this.#heads) {
      const head = await readHead(signed, key);
      if (!head) this.#fault(this.seq, 'head');
      else if (head.seq > this.seq) later.push(signed);
      else if (head.seq > 0 && this.#hashes.get(head.seq) !== head.hash) this.#fault(head.seq, 'head');
      else this.checked.headSeq = Math.max(this.checked.headSeq, head.seq);
    }
    this.#heads = later;
    this.onChecked();
  }

  #fault(seq: number, why: FaultWhy): void {
    this.checked.fault ??= { seq, why };
    this.onChecked();
  }
}

/** Does the device's long-term key vouch for the case key of this `joined`? */
function isVouched(author: AuthorFields, payload: JoinedPayload): Promise<boolean> {
  const { case_key } = clearOf<Joined>(author);
  return verify(payload.device_key, bindingText(author.case, author.author, case_key ?? ''), payload.device_sig);
}

function numberOf(sent: SentEvent): number | null {
  try {
    return (JSON.parse(sent.event.server) as ServerFields).seq;
  } catch {
    return null;
  }
}
