// The hash chain of one case, checked event by event, as server/protocol/src/chain.rs.
//
// Owns: the rule that every event names the hash before it, is signed by a key bound in an earlier (or the same)
// `joined`, and keeps its device's numbers rising. Never: opens an item.

import type { AuthorFields, Head, Joined, Opened, ServerFields, StoredEvent } from '@bindings/envelope';
import type { Role } from '@bindings/policy';
import { coarse, genesis, hashOf, readAuthor, readServer, verify } from './envelope';
import { KIND } from './kind';

export type ChainWhy =
  | 'malformed'
  | 'seq'
  | 'prev'
  | 'other_case'
  | 'unknown_author'
  | 'opening'
  | 'server_only'
  | 'other_role'
  | 'coarse_time'
  | 'bad_signature'
  | 'replayed'
  | 'id_reused';

export class ChainError extends Error {
  constructor(
    readonly why: ChainWhy,
    readonly seq: number,
  ) {
    super(`event ${seq}: ${why}`);
  }
}

interface Binding {
  author: string;
  role: Role;
  key: string;
  device_seq: number;
}

export class Chain {
  head: Head;
  serverKey: string | null = null;
  #devices = new Map<string, Binding>();
  #ids = new Set<string>();
  #started = false;

  constructor(readonly caseId: string) {
    this.head = { case: caseId, seq: 0, hash: '' };
  }

  binding(device: string): Readonly<Binding> | undefined {
    return this.#devices.get(device);
  }

  /** Checks a whole event and takes it as the new head. Throws `ChainError`. Not to be called twice at once. */
  async push(event: StoredEvent): Promise<{ server: ServerFields; author: AuthorFields }> {
    if (!this.#started) {
      this.head = { ...this.head, hash: await genesis(this.caseId) };
      this.#started = true;
    }
    const seq = this.head.seq + 1;
    const server = this.#read(seq, () => readServer(event.server));
    if (server.case !== this.caseId) throw new ChainError('other_case', seq);
    if (server.seq !== seq) throw new ChainError('seq', seq);
    if (server.prev !== this.head.hash) throw new ChainError('prev', seq);
    const author = this.#read(seq, () => readAuthor(event.author));
    if (author.case !== this.caseId) throw new ChainError('other_case', seq);
    if ((seq === 1) !== (author.kind === KIND.opened)) throw new ChainError('opening', seq);
    if (author.kind === KIND.receipt && !isCoarse(author)) throw new ChainError('coarse_time', seq);
    const bound = this.#keyFor(author, seq);
    if (!(await verify(bound.key, event.author, event.sig))) throw new ChainError('bad_signature', seq);
    if (this.#ids.has(author.id)) throw new ChainError('id_reused', seq);
    const last = this.#devices.get(author.device);
    if (last && author.device_seq <= last.device_seq) throw new ChainError('replayed', seq);
    if (author.kind === KIND.opened) this.serverKey = bound.key;
    this.#devices.set(author.device, { author: author.author, ...bound, device_seq: author.device_seq });
    this.#ids.add(author.id);
    this.head = { case: this.caseId, seq, hash: await hashOf(event) };
    return { server, author };
  }

  #keyFor(author: AuthorFields, seq: number): { key: string; role: Role } {
    const known = this.#devices.get(author.device);
    if (author.kind === KIND.opened) {
      const { server_key } = clearOf<Opened>(author);
      if (typeof server_key !== 'string') throw new ChainError('malformed', seq);
      return { key: server_key, role: 'server' };
    }
    if (author.kind === KIND.joined) {
      const { case_key, role } = clearOf<Joined>(author);
      if (typeof case_key !== 'string' || !role) throw new ChainError('malformed', seq);
      if (role === 'server') throw new ChainError('server_only', seq);
      for (const b of this.#devices.values()) {
        if (b.author === author.author && b.role !== role) throw new ChainError('other_role', seq);
      }
      // A device may repeat `joined` only for itself and with its own key.
      if (known && (known.author !== author.author || known.key !== case_key || known.role !== role)) {
        throw new ChainError('unknown_author', seq);
      }
      return { key: case_key, role };
    }
    if (!known || known.author !== author.author) throw new ChainError('unknown_author', seq);
    if (author.kind === KIND.sessionLeft && known.role !== 'server') throw new ChainError('server_only', seq);
    return { key: known.key, role: known.role };
  }

  #read<T>(seq: number, read: () => T): T {
    try {
      return read();
    } catch {
      throw new ChainError('malformed', seq);
    }
  }
}

/** A receipt's id and clear time must not tell the exact moment: a random id, whole minutes. */
function isCoarse(author: AuthorFields): boolean {
  return author.captured_at_ms === coarse(author.captured_at_ms) && author.id[14] === '4';
}

/** The clear fields of an event, as an object that may lack anything. */
export function clearOf<T>(author: AuthorFields): Partial<T> {
  return (typeof author.clear === 'object' && author.clear !== null ? author.clear : {}) as Partial<T>;
}
