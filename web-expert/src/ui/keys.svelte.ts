// Keys of the pages: which may act now.
//
// Owns: the switch for single letters (WCAG 2.1.4), the rule that nothing acts while somebody types.

const KEPT = 'lotse.singles';

let singles: boolean = $state(kept());
let helpOpen = $state(false);

export const keys = {
  get singles(): boolean {
    return singles;
  },
  set singles(on: boolean) {
    singles = on;
    try {
      localStorage.setItem(KEPT, on ? 'on' : 'off');
    } catch {
      // Private windows may keep nothing.
    }
  },
  get helpOpen(): boolean {
    return helpOpen;
  },
  set helpOpen(open: boolean) {
    helpOpen = open;
  },
};

/** Is this key meant for a text field or an open dialog rather than for the page? */
export function isTyping(e: KeyboardEvent): boolean {
  const t = e.target as HTMLElement | null;
  if (!t?.closest) return false;
  return t.isContentEditable || t.closest('input:not([type=range]):not([type=checkbox]), textarea, select') !== null;
}

/** May a single letter act? */
export function letterActs(e: KeyboardEvent): boolean {
  return singles && !isTyping(e) && !inDialog(e) && !e.ctrlKey && !e.metaKey && !e.altKey;
}

export function inDialog(e: KeyboardEvent): boolean {
  return (e.target as HTMLElement | null)?.closest?.('[role=dialog]') != null;
}

/** Does this element act on Space or Enter by itself? */
export function actsItself(e: KeyboardEvent): boolean {
  return (e.target as HTMLElement | null)?.closest?.('button, a, [role=tab], [role=slider], summary') != null;
}

function kept(): boolean {
  try {
    return localStorage.getItem(KEPT) !== 'off';
  } catch {
    return true;
  }
}
