// The instructions of a session on a technician's phone, and how far each has come: the twin of
// glass-client/src/core/instructions.rs.
//
// Owns: which one is on the screen, and the receipts that follow from showing and answering.
// Never: goes back from done or refused; draws.

import type { PictureOrigin, ReceiptPayload, ReceiptState } from '@bindings/payload';
import { furthest, type InstructionState } from '../protocol/fold';

/** On the screen this long counts as seen, ms, as on the glasses. */
export const SEEN_MS = 3_000;

type State = 'sent' | ReceiptState;
const ORDER: Record<State, number> = { sent: 0, shown: 1, seen: 2, done: 3, refused: 3 };

export class Steps {
  /** Oldest first; replaced ones are gone. */
  list: InstructionState[] = $state.raw([]);
  /** On the screen, open or not; null: the camera's own picture is. */
  current: string | null = $state(null);
  /** What was answered here and is perhaps not in the log yet. */
  #here: Record<string, State> = $state({});
  /** When the picture came onto the screen. */
  #since = new Map<string, number>();
  #read = false;

  /** The instructions of this session as the log has them. `live`: the log was read, what is new just came. */
  take(all: readonly InstructionState[], live: boolean): void {
    const replaced = new Set(all.map((i) => i.body.replaces));
    const known = new Set(this.list.map((i) => i.id));
    this.list = all.filter((i) => !replaced.has(i.id));
    const news = this.list.filter((i) => !known.has(i.id));
    if (this.current && !this.list.some((i) => i.id === this.current)) this.current = null;
    if (!live) return;
    // After a reload: the newest that waits for an answer. From then on what comes is shown.
    if (!this.#read) this.current ??= this.list.findLast((i) => this.isOpen(i.id))?.id ?? null;
    else if (news.length > 0) this.current = news.at(-1)!.id;
    this.#read = true;
  }

  get shown(): InstructionState | null {
    return this.list.find((i) => i.id === this.current) ?? null;
  }

  get waiting(): number {
    return this.list.filter((i) => this.isOpen(i.id)).length;
  }

  /** Which of how many, from 1. */
  place(id: string): [number, number] {
    return [this.list.findIndex((i) => i.id === id) + 1, this.list.length];
  }

  stateOf(id: string): State {
    const here = this.#here[id] ?? 'sent';
    const logged = furthest(this.list.find((i) => i.id === id)?.receipts ?? {});
    return ORDER[here] > ORDER[logged] ? here : logged;
  }

  isOpen(id: string): boolean {
    return ORDER[this.stateOf(id)] < ORDER.done;
  }

  /** Its picture is on the screen. */
  presented(id: string, picture: PictureOrigin, now_ms: number): ReceiptPayload[] {
    if (!this.#since.has(id)) this.#since.set(id, now_ms);
    return this.#advance(id, 'shown', now_ms, picture);
  }

  /** The screen went dark or to another page: what was not seen yet starts anew. */
  hidden(): void {
    this.#since.clear();
  }

  /** Long enough on the screen. */
  tick(now_ms: number): ReceiptPayload[] {
    const at = this.current === null ? undefined : this.#since.get(this.current);
    return at !== undefined && now_ms - at >= SEEN_MS ? this.#advance(this.current!, 'seen', now_ms) : [];
  }

  /** The technician reacted while it was shown. */
  touched(now_ms: number): ReceiptPayload[] {
    return this.current !== null && this.#since.has(this.current) ? this.#advance(this.current, 'seen', now_ms) : [];
  }

  /** Done or refused; the next open one comes, else the camera. */
  answer(done: boolean, now_ms: number): ReceiptPayload[] {
    if (this.current === null) return [];
    const receipts = this.#advance(this.current, done ? 'done' : 'refused', now_ms);
    this.go(this.list.find((i) => this.isOpen(i.id))?.id ?? null);
    return receipts;
  }

  /** A receipt that could not be filed is to be given again. */
  undo(receipt: ReceiptPayload): void {
    delete this.#here[receipt.instruction];
    this.go(receipt.instruction);
  }

  /** To an earlier or later one, open or not; null: to the camera. */
  go(id: string | null): void {
    this.#since.clear();
    this.current = id;
  }

  turn(by: -1 | 1): void {
    const at = this.list.findIndex((i) => i.id === this.current) + by;
    if (this.list[at]) this.go(this.list[at].id);
  }

  /** The receipt for a new state; none when it is not further than the last. */
  #advance(id: string, state: ReceiptState, at_ms: number, picture?: PictureOrigin): ReceiptPayload[] {
    if (ORDER[this.stateOf(id)] >= ORDER[state]) return [];
    this.#here[id] = state;
    return [{ instruction: id, state, at_ms, ...(picture ? { picture } : {}) }];
  }
}
