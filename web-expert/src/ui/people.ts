// One colour and one pair of letters per person, the same in avatar, list and timeline.

/** White text reaches 4.5:1 on each. */
const COLOURS = ['#1f5f93', '#7c5a0b', '#12616d', '#7a3b52', '#4b4396', '#2f6b34', '#8a4216', '#5b5566'];
/** The same hues, light enough for lines on dark and dark enough on light. */
const LINES = ['#4fa3e0', '#c79a2b', '#2fa9bb', '#d0708f', '#8f86e6', '#5db565', '#dd8350', '#a49bb3'];

export function colourOf(pseudonym: string): string {
  return COLOURS[indexOf(pseudonym)]!;
}

export function lineColourOf(pseudonym: string): string {
  return LINES[indexOf(pseudonym)]!;
}

export function initials(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const first = words[0]?.[0] ?? '?';
  const last = words.length > 1 ? (words.at(-1)?.[0] ?? '') : '';
  return (first + last).toUpperCase();
}

/** Colours given out in this tab, so that two people side by side differ; the pseudonym says where to begin. */
const given = new Map<string, number>();

function indexOf(pseudonym: string): number {
  const known = given.get(pseudonym);
  if (known !== undefined) return known;
  let h = 0;
  for (let i = 0; i < pseudonym.length; i++) h = (h * 31 + pseudonym.charCodeAt(i)) >>> 0;
  // The newest few are the ones on screen together.
  const taken = [...given.values()].slice(1 - COLOURS.length);
  let index = h % COLOURS.length;
  while (taken.includes(index)) index = (index + 1) % COLOURS.length;
  given.set(pseudonym, index);
  return index;
}
