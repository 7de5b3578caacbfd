// Several experts at once: what I draw goes to the others while I draw it, what they draw comes to me.
//
// Owns: the sheets of others and the picture under each, the rhythm of sending mine. Never: logs, merges by itself (board/sheets.ts), touches their marks.
// Elsewhere: the channel (link/rtc.svelte.ts), whose marks are shown (board/layers.ts).

import type { FrameId } from '@bindings/ids';
import type { Annotation, PointerMessage } from '@bindings/payload';
import { join, sheetOf, SheetSender, type Marking, type Sheet } from '../board/sheets';

/** A changed mark goes out at most 25 times a second; the server lets 120 messages pass. */
const PRESSING_MS = 40;
/** Five times a second one mark is repeated, in turn, and the glasses are told that somebody draws. */
const TURN_MS = 200;
/** A sheet that says nothing for so long is gone with its author. */
const SILENT_MS = 6_000;
/** That a sheet was put away is said so often: the channel may lose messages. */
const FAREWELLS = 4;

export class Colleagues {
  /** Open sheets of others by pseudonym. */
  sheets: Record<string, Sheet> = $state.raw({});

  /** The picture each of them draws on, taken from this page's own last 20 seconds when they begin; null: not here. One each. */
  pictures: Record<string, { frame: FrameId; bitmap: ImageBitmap | null } | undefined> = $state.raw({});

  #sender = new SheetSender();
  #frame: FrameId | null = null;
  #marks: (() => readonly { id: string; annotation: Annotation }[]) | null = null;
  #penDown = false;
  #lastTurn = 0;
  #timer = 0;
  #heard = new Map<string, number>();
  #watch = window.setInterval(() => this.#forget(), 1_000);

  constructor(
    private readonly send: (m: PointerMessage) => void,
    private readonly show: (frame: FrameId) => Promise<ImageBitmap | null>,
  ) {}

  /** My marks on this picture have changed; `marks` tells them when it is time to send, not at every move of the pen. */
  draw(frame: FrameId, marks: () => readonly { id: string; annotation: Annotation }[], penDown: boolean): void {
    if (this.#frame?.rtp !== frame.rtp || this.#frame.track !== frame.track) {
      this.#farewell();
      this.#frame = frame;
      this.#sender.open(frame, Date.now() / 1000);
    }
    this.#marks = marks;
    if (this.#penDown && !penDown) this.send({ t: 'off' });
    this.#penDown = penDown;
    if (!this.#timer) this.#timer = window.setInterval(() => this.#tick(), PRESSING_MS);
  }

  putAway(): void {
    this.#farewell();
    this.#marks = null;
    this.#frame = null;
    this.#penDown = false;
    clearInterval(this.#timer);
    this.#timer = 0;
  }

  heard(from: string, m: Marking): void {
    this.#heard.set(from, performance.now());
    const before = this.sheets[from];
    const now = sheetOf(m);
    const sheet = before ? join(before, now) : now;
    this.sheets = { ...this.sheets, [from]: sheet };
    if (!before || before.sheet !== sheet.sheet) void this.#picture(from, sheet.frame);
  }

  close(): void {
    this.putAway();
    clearInterval(this.#watch);
    for (const p of Object.values(this.pictures)) p?.bitmap?.close();
    this.pictures = {};
  }

  async #picture(from: string, frame: FrameId): Promise<void> {
    const bitmap = await this.show(frame);
    const sheet = this.sheets[from];
    // They may have gone on to another one meanwhile.
    if (!sheet || sheet.frame.rtp !== frame.rtp) bitmap?.close();
    else this.#keep(from, { frame, bitmap });
  }

  #keep(from: string, picture: { frame: FrameId; bitmap: ImageBitmap | null } | undefined): void {
    this.pictures[from]?.bitmap?.close();
    this.pictures = { ...this.pictures, [from]: picture };
  }

  #tick(): void {
    const now = performance.now();
    const marks = this.#marks;
    this.#marks = null;
    if (marks) this.#sender.update(marks());
    if (this.#sender.pressing) this.#say();
    if (now - this.#lastTurn < TURN_MS) return;
    this.#lastTurn = now;
    if (this.#penDown) this.send({ t: 'drawing' });
    this.#say();
  }

  #say(): void {
    const m = this.#sender.next();
    if (m) this.send(m);
  }

  #farewell(): void {
    const m = this.#sender.close();
    if (!m) return;
    for (let i = 0; i < FAREWELLS; i++) window.setTimeout(() => this.send(m), i * PRESSING_MS * 2);
  }

  #forget(): void {
    const silent = performance.now() - SILENT_MS;
    const gone = Object.keys(this.sheets).filter((who) => (this.#heard.get(who) ?? 0) < silent);
    for (const who of gone) this.#keep(who, undefined);
    if (gone.length > 0) this.sheets = Object.fromEntries(Object.entries(this.sheets).filter(([who]) => !gone.includes(who)));
  }
}
