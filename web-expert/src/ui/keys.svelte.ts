// Keys of the pages: which may act now, and which one somebody chose.
//
// Owns: what is kept in this browser, the switch for single keys (WCAG 2.1.4), the rule that nothing acts while somebody types.
// Elsewhere: defaults and conflicts (keytable.ts).

import { actOf, assign, keyOf, nameOf, read, type Act, type Chosen, type Place } from './keytable';

const SINGLES = 'lotse.singles';
const CHOSEN = 'lotse.keys';

let singles: boolean = $state(kept(SINGLES) !== 'off');
let chosen: Chosen = $state.raw(read(kept(CHOSEN)));
let helpOpen = $state(false);

export const keys = {
  get singles(): boolean {
    return singles;
  },
  set singles(on: boolean) {
    singles = on;
    keep(SINGLES, on ? 'on' : 'off');
  },
  get chosen(): Chosen {
    return chosen;
  },
  get helpOpen(): boolean {
    return helpOpen;
  },
  set helpOpen(open: boolean) {
    helpOpen = open;
  },
  /** Gives an act another key; null: none. Whoever had the key goes without. */
  choose(act: Act, key: string | null): void {
    chosen = assign(act, key, chosen);
    keep(CHOSEN, JSON.stringify(chosen));
  },
  reset(): void {
    chosen = {};
    keep(CHOSEN, '{}');
  },
};

/** The key of an act as it stands beside its button: "M", or nothing where it is off. */
export function keyFor(act: Act): string {
  const key = singles ? keyOf(act, chosen) : null;
  return key === null ? '' : key.startsWith('Shift+') ? `⇧${key.slice(6).toUpperCase()}` : key.toUpperCase();
}

/** For `title`: " (M)", or nothing. */
export function hint(act: Act): string {
  const key = keyFor(act);
  return key ? ` (${key})` : '';
}

/** What this key asks for here, when single keys may act. */
export function actFor(e: KeyboardEvent, place: Place): Act | null {
  if (!letterActs(e)) return null;
  const name = nameOf(e);
  return name === null ? null : actOf(name, place, chosen);
}

/** Is this key meant for a text field or an open dialog rather than for the page? */
export function isTyping(e: KeyboardEvent): boolean {
  const t = e.target as HTMLElement | null;
  if (!t?.closest) return false;
  return t.isContentEditable || t.closest('input:not([type=range]):not([type=checkbox]), textarea, select') !== null;
}

/** May a single key act? Alt Graph makes signs on many keyboards and says ctrl and alt. */
export function letterActs(e: KeyboardEvent): boolean {
  const held = (e.ctrlKey || e.metaKey || e.altKey) && !e.getModifierState?.('AltGraph');
  return singles && !isTyping(e) && !inDialog(e) && !held;
}

export function inDialog(e: KeyboardEvent): boolean {
  return (e.target as HTMLElement | null)?.closest?.('[role=dialog]') != null;
}

/** Does this element act on Space or Enter by itself? */
export function actsItself(e: KeyboardEvent): boolean {
  return (e.target as HTMLElement | null)?.closest?.('button, a, [role=tab], [role=slider], input[type=checkbox], summary') != null;
}

function kept(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function keep(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Private windows may keep nothing: the choice holds for this page.
  }
}
