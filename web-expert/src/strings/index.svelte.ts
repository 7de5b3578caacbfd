// The language of the page and the words in it.
//
// Owns: the chosen language (kept in this browser), `html lang`, numbers and times as people write them.
// Elsewhere: the words (de.ts, en.ts).

import { de } from './de';
import { en } from './en';

export type Language = 'de' | 'en';
export type Words = typeof de;

const DICTIONARIES: Record<Language, Words> = { de, en };
const KEPT = 'lotse.language';

let current: Language = $state(initial());

export function language(): Language {
  return current;
}

export function setLanguage(to: Language): void {
  current = to;
  try {
    localStorage.setItem(KEPT, to);
  } catch {
    // Private windows may keep nothing: the choice holds for this page.
  }
  apply();
}

/** The words in the current language; read inside markup so that it follows the switch. */
export function words(): Words {
  return DICTIONARIES[current];
}

/** Sets `html lang`; called once at start. */
export function apply(): void {
  document.documentElement.lang = current;
}

function initial(): Language {
  try {
    const kept = localStorage.getItem(KEPT);
    if (kept === 'de' || kept === 'en') return kept;
  } catch {
    // As above.
  }
  return typeof navigator !== 'undefined' && navigator.language.toLowerCase().startsWith('de') ? 'de' : 'en';
}

/** "14:32:08" in local time. */
export function clockTime(ms: number, withTenths = false): string {
  return new Intl.DateTimeFormat(current, {
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    ...(withTenths ? { fractionalSecondDigits: 3 } : {}),
    hour12: false,
  }).format(ms);
}

/** "14:32". */
export function hourMinute(ms: number): string {
  return new Intl.DateTimeFormat(current, { hour: '2-digit', minute: '2-digit', hour12: false }).format(ms);
}

/** "21. Nov. 2026, 14:32". */
export function dateTime(ms: number): string {
  return new Intl.DateTimeFormat(current, { dateStyle: 'medium', timeStyle: 'short', hour12: false }).format(ms);
}

/** "12:47" or "1:02:03". */
export function duration(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  const two = (n: number) => String(n).padStart(2, '0');
  const h = Math.floor(s / 3600);
  const rest = `${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  return h > 0 ? `${h}:${rest}` : rest;
}

/** How long somebody has waited: "12:47", above an hour "16 Std. 3 Min.", above two days "3 Tage". */
export function waited(ms: number): string {
  const minutes = Math.floor(Math.max(0, ms) / 60_000);
  const unit = (value: number, name: 'day' | 'hour' | 'minute', unitDisplay: 'long' | 'short') =>
    new Intl.NumberFormat(current, { style: 'unit', unit: name, unitDisplay }).format(value);
  if (minutes < 60) return duration(ms);
  if (minutes < 2 * 24 * 60) return `${unit(Math.floor(minutes / 60), 'hour', 'short')} ${unit(minutes % 60, 'minute', 'short')}`;
  return unit(Math.floor(minutes / (24 * 60)), 'day', 'long');
}

/** "2,1" or "2.1". */
export function number(value: number, digits = 0): string {
  return new Intl.NumberFormat(current, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

/** "3,2 MB". */
export function fileSize(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${number(value, unit > 1 && value < 100 ? 1 : 0)} ${units[unit]}`;
}

/** "vor 3 Minuten". */
export function ago(ms: number, now_ms: number): string {
  const s = Math.round((ms - now_ms) / 1000);
  const f = new Intl.RelativeTimeFormat(current, { numeric: 'auto' });
  const a = Math.abs(s);
  if (a < 60) return f.format(0, 'minute');
  if (a < 3600) return f.format(Math.round(s / 60), 'minute');
  if (a < 86_400) return f.format(Math.round(s / 3600), 'hour');
  return f.format(Math.round(s / 86_400), 'day');
}
