// Dark or light: the system's wish until somebody chooses; the choice stays in this browser.

export type Theme = 'dark' | 'light';
const KEPT = 'lotse.theme';

let chosen: Theme | null = $state(kept());
let system: Theme = $state(matchMedia('(prefers-color-scheme: light)').matches ? 'light' : 'dark');

export function theme(): Theme {
  return chosen ?? system;
}

export function setTheme(to: Theme): void {
  chosen = to;
  try {
    localStorage.setItem(KEPT, to);
  } catch {
    // Private windows may keep nothing: the choice holds for this page.
  }
  applyTheme();
}

export function applyTheme(): void {
  document.documentElement.dataset.theme = theme();
}

export function followSystem(): void {
  matchMedia('(prefers-color-scheme: light)').addEventListener('change', (e) => {
    system = e.matches ? 'light' : 'dark';
    applyTheme();
  });
  applyTheme();
}

function kept(): Theme | null {
  try {
    const v = localStorage.getItem(KEPT);
    return v === 'dark' || v === 'light' ? v : null;
  } catch {
    return null;
  }
}
