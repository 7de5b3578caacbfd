// What keys do on the live page: one table from act to deed, and the keys that are no letters.
//
// Owns: which key means what in which state. Never: acts while somebody types or a dialog is open.
// Elsewhere: which single key an act has (ui/keytable.ts).

import type { Session } from '@bindings/session';
import type { BoardActs } from '../board/acts';
import { COLOURS, TOOLS, WIDTHS, type Style, type Tool } from '../board/tools';
import { PAN_STEP, panned, WHOLE, ZOOM_STEP, zoomed, type View } from '../board/view';
import { actFor, actsItself, inDialog, isTyping } from '../ui/keys.svelte';
import type { Act } from '../ui/keytable';
import type { LiveCall } from './call.svelte';

/** What of the page keys read and change. */
export interface KeyPage {
  readonly call: LiveCall;
  readonly session: Session | null;
  readonly acts: BoardActs | null;
  tool: Tool;
  style: Style;
  selected: string | null;
  view: View;
  undo(): void;
  redo(): void;
  chat(): void;
  /** Shows or hides the marks of all others. */
  others(): void;
}

/** Moving a mark: 1 % of the picture, with shift 5 %. */
const MOVE = 655;
const MOVE_FAR = 3277;
const ARROWS: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function pressed(e: KeyboardEvent, page: KeyPage): void {
  if (inDialog(e) || isTyping(e) || !page.session) return;
  const { call } = page;
  const arrow = ARROWS[e.key];
  if (e.key === ' ' && !actsItself(e)) {
    e.preventDefault();
    if (!e.repeat) call.mic.hold(true);
  } else if (e.key === 'Enter' && call.frozen && !actsItself(e)) {
    e.preventDefault();
    void call.send();
  } else if (e.key === 'Escape') escape(page);
  else if ((e.ctrlKey || e.metaKey) && e.key.toLowerCase() === 'z') {
    e.preventDefault();
    if (e.shiftKey) page.redo();
    else page.undo();
  } else if (e.key === 'Delete' || e.key === 'Backspace') {
    if (page.acts?.remove()) e.preventDefault();
  } else if (arrow && !(e.target as HTMLElement | null)?.closest?.('input, [role=toolbar], [role=tablist], [role=radiogroup]')) {
    if (arrows(page, arrow, e.shiftKey)) e.preventDefault();
  } else {
    const act = actFor(e, 'live');
    const deed = act && (DEEDS[act] as ((p: KeyPage) => void) | undefined);
    if (!deed) return;
    deed(page);
    e.preventDefault();
  }
}

export function released(e: KeyboardEvent, page: KeyPage): void {
  if (e.key === ' ') page.call.mic.hold(false);
}

function escape(page: KeyPage): void {
  if (page.selected) page.selected = null;
  else if (page.call.frozen) page.call.unfreeze();
  else page.tool = 'select';
}

/** Moves the selected mark, else the view when it is nearer than whole. */
function arrows(page: KeyPage, [x, y]: [number, number], far: boolean): boolean {
  const by = far ? MOVE_FAR : MOVE;
  if (page.selected && page.acts?.move(x * by, y * by)) return true;
  if (page.view.zoom === 1) return false;
  page.view = panned(page.view, x * PAN_STEP * (far ? 3 : 1), y * PAN_STEP * (far ? 3 : 1));
  return true;
}

function width(page: KeyPage, step: number): void {
  const i = WIDTHS.indexOf(page.style.width as (typeof WIDTHS)[number]) + step;
  page.style = { ...page.style, width: WIDTHS[Math.min(WIDTHS.length - 1, Math.max(0, i))]! };
}

const DEEDS: Partial<Record<Act, (p: KeyPage) => void>> = {
  ...Object.fromEntries(TOOLS.map((tool) => [tool, (p: KeyPage) => (p.tool = tool)])),
  ...Object.fromEntries(COLOURS.map((colour, i) => [`colour${i + 1}`, (p: KeyPage) => (p.style = { ...p.style, colour })])),
  thinner: (p) => width(p, -1),
  thicker: (p) => width(p, 1),
  place: (p) => p.acts?.placeInMiddle(),
  others: (p) => p.others(),
  freeze: ({ call }) => (call.frozen ? call.unfreeze() : void call.freeze()),
  pictureBack: ({ call }) => call.freezing.step(-1),
  pictureOn: ({ call }) => call.freezing.step(1),
  secondBack: ({ call }) => call.freezing.seconds(-1),
  secondOn: ({ call }) => call.freezing.seconds(1),
  zoomIn: (p) => (p.view = zoomed(p.view, ZOOM_STEP)),
  zoomOut: (p) => (p.view = zoomed(p.view, 1 / ZOOM_STEP)),
  zoomFit: (p) => (p.view = WHOLE),
  mic: ({ call }) => call.mic.setOpen(!call.mic.open),
  photo: ({ call }) => void call.photo(),
  chat: (p) => p.chat(),
};
