// Zoom and pan by wheel, two fingers, the middle button, or a drag that draws nothing.
//
// Owns: the pointers that move the view. Never: draws; the board asks it first and draws with what is left over.

import { panned, zoomed, type View } from './view';

/** One notch of a wheel is 100 to 120; three of them double. */
const WHEEL = 1 / 420;

interface Finger {
  x: number;
  y: number;
}

export class Gestures {
  /** Fingers on the board, at most the first two. */
  #fingers = new Map<number, Finger>();
  #panning: { id: number; last: Finger } | null = null;

  constructor(
    private readonly box: () => DOMRect,
    private readonly view: () => View,
    private readonly use: (v: View) => void,
  ) {}

  /** The view is being moved: nothing is drawn meanwhile. */
  get busy(): boolean {
    return this.#fingers.size > 1 || this.#panning !== null;
  }

  wheel(e: WheelEvent): void {
    e.preventDefault();
    const box = this.box();
    // Lines and pages of old mice, as pixels.
    const unit = e.deltaMode === 1 ? 33 : e.deltaMode === 2 ? 400 : 1;
    if (e.shiftKey) this.use(panned(this.view(), ((e.deltaX || e.deltaY) * unit) / box.width, 0));
    // A pinch on a touch pad comes as small steps with ctrl.
    else this.use(zoomed(this.view(), 2 ** (-e.deltaY * unit * WHEEL * (e.ctrlKey ? 6 : 1)), this.#part(e.clientX, e.clientY)));
  }

  /** True: this pointer moves the view. `drag`: it may, even alone. */
  down(e: PointerEvent, drag: boolean): boolean {
    if (e.pointerType === 'touch' && this.#fingers.size < 2) this.#fingers.set(e.pointerId, { x: e.clientX, y: e.clientY });
    if (this.#fingers.size > 1) {
      this.#panning = null;
      return true;
    }
    if (e.button !== 1 && !(drag && this.view().zoom > 1)) return false;
    e.preventDefault();
    this.#panning = { id: e.pointerId, last: { x: e.clientX, y: e.clientY } };
    return true;
  }

  move(e: PointerEvent): void {
    if (!this.busy) {
      if (this.#fingers.has(e.pointerId)) this.#fingers.set(e.pointerId, { x: e.clientX, y: e.clientY });
      return;
    }
    const now = { x: e.clientX, y: e.clientY };
    const box = this.box();
    if (this.#panning?.id === e.pointerId && this.#fingers.size < 2) {
      const { last } = this.#panning;
      this.#panning.last = now;
      this.use(panned(this.view(), (last.x - now.x) / box.width, (last.y - now.y) / box.height));
      return;
    }
    const before = this.#fingers.get(e.pointerId);
    if (!before || this.#fingers.size < 2) return;
    const other = [...this.#fingers].find(([id]) => id !== e.pointerId)![1];
    this.#fingers.set(e.pointerId, now);
    const wide = (a: Finger) => Math.max(12, Math.hypot(a.x - other.x, a.y - other.y));
    const middle = (a: Finger) => ({ x: (a.x + other.x) / 2, y: (a.y + other.y) / 2 });
    const [from, to] = [middle(before), middle(now)];
    const near = zoomed(this.view(), wide(now) / wide(before), this.#part(from.x, from.y));
    this.use(panned(near, (from.x - to.x) / box.width, (from.y - to.y) / box.height));
  }

  up(e: PointerEvent): void {
    this.#fingers.delete(e.pointerId);
    if (this.#panning?.id === e.pointerId) this.#panning = null;
  }

  #part(x: number, y: number): { x: number; y: number } {
    const box = this.box();
    return { x: (x - box.left) / box.width, y: (y - box.top) / box.height };
  }
}
